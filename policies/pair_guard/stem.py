"""Words without their endings: plurals, verb forms, feminines. Never the ones that change what is meant (-less, -er, un-)."""

import re
from functools import lru_cache
from typing import Final

from policies.pair_guard.words import Words

_VOWELS: Final = frozenset("aeiouy")
_DOUBLED: Final = frozenset("bdgmnprt")
_PLURALS: Final = (("eaux", "eau"), ("aux", "al"), ("euses", "eux"), ("euse", "eux"))
_LONG: Final = 6
_NO_VERBS: Final = frozenset({"evening", "morning", "building", "meeting", "ceiling", "wedding", "setting"})
_CLUSTERS: Final = frozenset(
    {
        "lv",
        "rv",
        "nc",
        "rc",
        "ng",
        "rg",
        "dg",
        "lg",
        "rs",
        "ns",
        "ps",
        "ls",
        "tl",
        "dl",
        "gl",
        "bl",
        "pl",
        "fl",
        "zl",
        "kl",
    }
)
"""Consonants at the end of a stem behind which an e was dropped."""
_BRITISH: Final = (
    (re.compile(r"(?<=[a-z]{3})is(?=(?:e|ed|es|ing|er|ers|ation|ations)$)"), "iz"),
    (re.compile(r"(?<=[a-z]{3})(?<!t)our(?=(?:s|ed|ing|ite|ites|able|al|ful|less)?$)"), "or"),
    (re.compile(r"(?<=[aeilnt]t)re(?=s?$)"), "er"),
    (re.compile(r"(?<=log)ue(?=s?$)"), ""),
    (re.compile(r"(?<=ly)s(?=e|ed|es|ing)"), "z"),
    (re.compile(r"(?:(?<=[aeiou][a-z][aeiou])|(?<=[aeiou][a-z]{2}[aeiou]))ll(?=(?:ed|ing|er|ers)$)"), "l"),
)
_SHORT: Final = 3
_FRENCH: Final = (
    (re.compile(r"(?:issons|issez|issent|issait|issaient|issant)$"), "ir"),
    (re.compile(r"(?:erai|eras|era|erons|erez|eront|erais|erait|eraient)$"), "er"),
    (re.compile(r"(?:ées|és|ée|é|ais|ait|aient|ons|ez|ent|ant|es|er|e)$"), "er"),
)


def _drops_e(stem: str) -> bool:
    """Whether a verb that ends so mostly ended in a silent e: of solved and calculated, the words hold stumps as well."""
    if stem[-2] not in _VOWELS:
        return stem[-2:] in _CLUSTERS and not stem.endswith("ing")
    if stem[-3] in _VOWELS and stem[-4:-2] != "qu":  # to cook, but to please
        return stem[-1] in "cvsz" or stem.endswith(("iat", "uat", "reat"))
    return stem[-1] not in "xy" and not stem.endswith(("it", "al", "or"))


class Stemmer:
    """Stems of English and French words; `words` decides where a final e was dropped."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self.english = lru_cache(16384)(self._english)
        self.french = lru_cache(16384)(self._french)

    def _english(self, word: str) -> str:
        if len(word) <= _SHORT:
            return word
        for british, american in _BRITISH:
            word = british.sub(american, word)
        if word.endswith("ies") and len(word) > 4:  # noqa: PLR2004 - ties, dies
            return word[:-3] + "y"
        if word.endswith(("ches", "shes", "sses", "xes", "zes")):
            return word[:-2]
        if word.endswith("s") and not word.endswith(("ss", "us", "is", "ous", "ics")):
            word = word[:-1]
        if word.endswith("ied") and len(word) > 4:  # noqa: PLR2004
            return word[:-3] + "y"
        if word in _NO_VERBS:
            return word
        if word.endswith("ing") and len(word) > 5:  # noqa: PLR2004
            return self._silent_e(word[:-3], word)
        if word.endswith("ed") and not word.endswith("eed") and len(word) > 4:  # noqa: PLR2004
            return self._silent_e(word[:-2], word)
        return word

    def _silent_e(self, stem: str, word: str) -> str:
        if not _VOWELS & set(stem) or len(stem) < _SHORT:
            return word if not _VOWELS & set(stem) else stem + "e"
        if stem[-1] == stem[-2] and stem[-1] in _DOUBLED and len(stem) > _SHORT:  # to add
            return stem[:-1]
        if stem.endswith("iz"):
            return stem + "e"
        if stem[-1] in _VOWELS and stem[-1] not in "yeo":
            return stem + "e"
        if len(stem) == _SHORT and stem[-1] in "wxy":
            return stem
        if len(stem) == _SHORT and stem[-2] in _VOWELS and stem[-3] not in _VOWELS:
            return stem + "e"  # hoping is of hope, hopping of hop
        if stem + "e" in self._words and (stem not in self._words or _drops_e(stem)):
            return stem + "e"
        return stem

    def _french(self, word: str) -> str:
        if len(word) <= _SHORT:
            return word
        for plural, singular in _PLURALS:
            if word.endswith(plural) and len(word) > len(plural) + 2:
                return word.removesuffix(plural) + singular
        if word.endswith("s") and not word.endswith(("ss", "us", "is", "as", "ons")):
            word = word[:-1]
        for feminine in ("ienne", "onne", "elle", "ette"):
            if word.endswith(feminine) and len(word) > len(feminine) + 2:
                return word[:-2]
        return self._infinitive(word)

    def _infinitive(self, word: str) -> str:
        for pattern, ending in _FRENCH:
            cut = pattern.sub("", word)
            if cut[-1:] == "ç":
                cut = cut[:-1] + "c"
            elif cut[-2:] == "ge" and word != cut + "r":  # nous changeons
                cut = cut[:-1]
            if cut != word and len(cut) >= _SHORT and cut + ending in self._words:
                return cut + ending
        if (
            word.endswith(("ées", "és", "ée", "é")) and len(word) > _SHORT + 1
        ):  # of verbs that are not among the words, too
            return word.rstrip("s").removesuffix("e").removesuffix("é") + "er"
        if word.endswith("ez") and len(word) > _LONG:
            return word[:-1] + "r"
        if word.endswith("ons"):  # no verb, but a plural
            return word[:-1]
        if word.endswith(("ier", "ie")) and len(word) > _LONG:
            return word.removesuffix("r").removesuffix("e")
        if word.endswith("e") and len(word) > _SHORT + 1 and word[:-1] in self._words:
            return word[:-1]
        return word
