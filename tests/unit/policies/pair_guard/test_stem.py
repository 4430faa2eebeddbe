"""Stems: what is one word in other forms, and what is not."""

import functools
import re

import pytest

from policies.pair_guard.meanings import Meanings
from policies.pair_guard.stem import Stemmer
from policies.pair_guard.tables import Tables
from policies.pair_guard.words import Words


@functools.cache
def stemmer() -> Stemmer:
    return Stemmer(Words.load())


@functools.cache
def meanings(language: str = "en") -> Meanings:
    stems = {"en": stemmer().english, "fr": stemmer().french}
    return Meanings(Tables.load().languages[language], stems[language])


@pytest.mark.parametrize(
    "forms",
    ["study studies studied studying", "run running runs", "hope hoping hoped", "hop hopping hopped", "box boxes", "watch watches",
     "create creating created", "open opening", "organise organize organised", "colour color", "travelling traveling", "catalogue catalog"],
)  # fmt: skip
def test_forms_of_an_english_word_have_one_stem(forms: str) -> None:
    assert len({stemmer().english(form) for form in forms.split()}) == 1


VERBS = """
    accept achieve acquire activate add adjust advise allow announce answer apologise appear apply approve argue
    arrange arrive ask assume attach attend avoid bake balance believe belong blame block boil borrow bounce
    browse brush calculate call care carry cast cause celebrate change charge chase check circulate claim clean
    clear climb close collect combine compare compete complain complete compute concern configure confirm
    confuse connect consider consume contact continue contribute convert convince cook copy correct count cover
    create damage dance deal decide declare decline decrease defeat define defrost delete deliver depend
    describe design destroy determine develop disable discuss divide donate download drain dress drop earn edit
    educate email enable encourage encrypt engage enhance enjoy enter escape establish evaluate exchange exclude
    execute exercise exist expand expect expire explain explore export express fail fasten file fill finance
    finish fire fix focus fold force freeze fund gain generate guess handle hang happen hate help hire hope
    identify ignore imagine import improve include increase inform insert install insure invest invite involve
    iron issue join judge jump knit knock land last laugh lease lend like link list listen live load locate lock
    look love maintain make manage mark market measure mention merge migrate mix move name need notice obtain
    occur offer open operate order own pack paint park paste pause pay perform permit pick place plan plant play
    please point postpone pour practice praise prepare present preserve press prevent probate process produce
    program promise promote protect prove provide prune publish pull purchase push queue quote raise reach
    receive recommend record recover recycle reduce refund refuse register reject release remain remember remove
    rename renew rent repair repeat replace report request require rescue reserve reset resign resize resolve
    respond restart restore retire retrieve return reverse review reward ride rinse roast rotate scale schedule
    score scratch search secure seize select separate serve settle share shave ship shop show sign sing skip
    sleep slice smile smoke solve sort spare spell split spread squeeze stack stage start state stop store
    stretch study subscribe suggest supply support surprise survive suspend swallow switch taste teach tease
    test thank tie touch trace track trade train transfer translate treat trust try tune turn type unlock update
    upgrade upload use validate vary verify view visit vote wait walk warm wash waste watch water wave weigh
    welcome whip wipe wish wonder work worry
""".split()  # noqa: SIM905 - a list of words, as it reads


@pytest.mark.parametrize("verb", VERBS)
def test_forms_of_a_verb_meet(verb: str) -> None:
    """As the pair guard looks them up; of solved and calculated the list of words holds the stumps as well."""
    if verb.endswith("ie"):
        forms = (verb, verb[:-2] + "ying", verb + "d")
    elif verb.endswith("e"):
        forms = (verb, verb[:-1] + "ing", verb + "d")
    elif verb.endswith("y") and verb[-2] not in "aeiou":
        forms = (verb, verb + "ing", verb[:-1] + "ied")
    elif len(verb) <= 4 and re.search("[^aeiou][aeiou][bdgmnpt]$", verb):
        forms = (verb, verb + verb[-1] + "ing", verb + verb[-1] + "ed")
    else:
        forms = (verb, verb + "ing", verb + "ed")
    assert len({meanings().of(form) for form in forms}) == 1


@pytest.mark.parametrize(
    "words",
    [
        "employer employee",
        "care careless",
        "plan plane",
        "planning planing",
        "staring starring",
        "hoped hopped",
        "singing singeing",
        "adding advertising",
        "bared barred",
        "safe unsafe",
        "bus busy",
        "four for",
        "evening even",
        "king kin",
    ],
)
def test_different_english_words_keep_apart(words: str) -> None:
    assert len({stemmer().english(word) for word in words.split()}) == 2


@pytest.mark.parametrize(
    "forms", ["chanter chante chantez", "cheval chevaux", "nationale nationales", "bateau bateaux"]
)
def test_forms_of_a_french_word_have_one_stem(forms: str) -> None:
    assert len({stemmer().french(form) for form in forms.split()}) == 1


@pytest.mark.parametrize(
    "forms",
    [
        "changer changé changée changes changeons changeait",
        "valider validé validée validés validez",
        "remplacer remplacé remplaçons",
        "choisir choisi choisie",
        "vendre vendu vendue",
        "jeu jeux",
        "délai délais",
        "maison maisons",
    ],
)
def test_forms_of_a_french_word_meet(forms: str) -> None:
    """As the pair guard looks them up."""
    assert len({meanings("fr").of(form) for form in forms.split()}) == 1


def test_common_words_are_known_and_misspelt_ones_are_not() -> None:
    words = Words.load()
    assert all(word in words for word in ("invoice", "password", "subscription", "vegan", "question"))
    assert sum(word in words for word in ("invioce", "pasword", "subscripton", "adress", "recieve", "seperate")) <= 1
