"""The pair guard's laws, each by pairs of its own: what may share an answer, and what never."""

import functools

import pytest

from policies.pair_guard.compare import PairGuard
from policies.pair_guard.tables import Tables


@functools.cache
def tables() -> Tables:
    return Tables.load()


@functools.cache
def guard(language: str = "same") -> PairGuard:
    return PairGuard(tables(), "any" if language == "any" else "same")


def closeness(one: str, other: str, language: str = "same") -> str:
    """How close they are; the order of the two never matters."""
    judged = guard(language).judge(one, other).closeness
    assert guard(language).judge(other, one).closeness == judged
    return judged


SAME = [
    ("How do I change my password?", "how can i change my password"),
    ("How do I change my password?", "What is the best way to change my password?"),
    ("How do I change my password?", "I would like to change my password, how do I do that?"),
    ("How do I bleed a radiator?", "Hi, quick question: how do I bleed a radiator? Thanks!"),
    ("How do I turn the alarm off?", "How do I switch off the alarm?"),
    ("When does the course begin?", "What time does the course start?"),
    ("How much is a haircut?", "What is the price of a haircut?"),
    ("Why can't I log in?", "Why can I not login?"),
    ("Where can I find my contract?", "Where is my contract?"),
    ("What's the difference between jam and jelly?", "How does jam differ from jelly?"),
    ("How long does a perm take?", "How long is a perm?"),
    ("At the hotel, is there a gym?", "Is there a gym at the hotel?"),
    ("What is the formula of the sphere volume?", "What is the sphere volume formula?"),
    ("Are tea and coffee free?", "Are coffee and tea free?"),
    ("Do I need two photos?", "Do I need 2 photos?"),
    ("How do I analyse two hundred samples?", "How do I analyze 200 samples?"),
    ("How do I get a refund on my subscripton?", "How do I get a refund on my subscription?"),
    ("What is the wifi code?", "What is the Wi-Fi code?"),
    ("What is the weight of 3,500 coins?", "What is the weight of 3500 coins?"),
    ("When was the mill built?", "In what year was the mill built?"),
    ("Is it safe to eat raw eggs?", "Are raw eggs safe to eat?"),
    ("Do you ship to Canada?", "Can you ship to Canada?"),
    ("In field hockey, what's the meaning of a green card?", "What does a green card mean in field hockey?"),
    ("If my train is late, can I get a refund?", "Can I get a refund if my train is late?"),
    ("Why is my washer leaking?", "My washer leaks, why?"),
    ("À quelle heure ferme la mairie le samedi ?", "À quelle heure la mairie ferme-t-elle le samedi ?"),
    ("Combien de temps faut-il pour avoir un visa ?", "Il faut combien de temps pour avoir un visa ?"),
    ("Merci de m'indiquer comment suivre ma commande", "Comment suivre ma commande ?"),
    ("How do I unsubscribe from the letter?", "I want to unsubscribe from the letter"),
    ("Can you freeze cooked rice?", "Is it possible to freeze cooked rice?"),
    ("My washer won't drain, what can I do?", "What to do when the washer doesn't drain?"),
    ("Could you tell me the height of the tower?", "What is the height of the tower?"),
    ("Which opening is best for beginners?", "What is the best opening for a beginner?"),
    ("How do I reverse a list in Python?", "how do i reverse a python list"),
    ("difference between ale and lager?", "What is the difference between lager and ale?"),
    ("steps to create a pivot table", "How do I create a pivot table?"),
    ("Booking a table at the inn, how does it work?", "How do I book a table at the inn?"),
    ("Comment résilier son abonnement ?", "Je voudrais résilier mon abonnement, comment faire ?"),
    ("Quel est le numéro du service ?", "pourriez-vous me donner le numero du service"),
    ("Quel est le délai de livraison ?", "c'est quoi le délai de livraison"),
    ("Le musée est-il gratuit le lundi ?", "est-ce que le musée est gratuit le lundi"),
    ("Quand faut-il tailler les rosiers ?", "À quel moment doit-on tailler un rosier ?"),
    ("Que faire si j'ai perdu ma carte ?", "J'ai perdu ma carte, que dois-je faire ?"),
    (
        "En quoi une pommade se distingue-t-elle d'une crème ?",
        "Quelle est la différence entre une crème et une pommade ?",
    ),
    ("How much time does a perm take?", "How long does a perm take?"),
    ("Is it OK to bring my dog?", "Can I bring my dog?"),
    ("Is there an effective way to kill weeds?", "What is the most effective way to kill weeds?"),
    ("How is it to be a pilot?", "How it's like to be a pilot?"),
    ("Y a-t-il un moyen d'annuler ma commande ?", "Comment annuler ma commande ?"),
    ("Comment annuler ma commande ?", "Comment puis-je annuler ma commande ?"),
    ("Comment annuler ma commande ?", "Bonjour, comment faire pour annuler ma commande, s'il vous plaît ?"),
    ("Où puis-je trouver ma facture ?", "Où se trouve ma facture ?"),
    ("Combien coûte une coupe ?", "Quel est le prix d'une coupe ?"),
    ("Pourquoi l'eau est-elle salée ?", "Pourquoi l\u2019eau est salée ?"),
    ("Wie lange kocht man ein Ei?", "wie lange kocht man ein Ei"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_question_in_other_words_is_the_same(one: str, other: str) -> None:
    assert closeness(one, other) == "same"


DIFFERENT = {
    "numbers": [
        ("Can I take 2 tablets every 4 hours?", "Can I take 2 tablets every 6 hours?"),
        ("How many calories are in one egg?", "How many calories are in three eggs?"),
        ("What is 15% of 200?", "What is 50% of 200?"),
        ("What is new in version 3.11?", "What is new in version 3.12?"),
        ("Is 1,5 l enough?", "Is 15 l enough?"),
        ("Remind me at 7am", "Remind me at 7pm"),
        ("What is 7 - 3?", "What is 7 + 3?"),
        ("Combien font 17 fois 23 ?", "Combien font 17 fois 24 ?"),
    ],
    "units": [
        ("How far is 10 km?", "How far is 10 miles?"),
        ("What is 20 °C in kelvin?", "What is 20 °F in kelvin?"),
        ("Transfer £50 to my savings", "Transfer $50 to my savings"),
    ],
    "dates": [
        ("Is the pool open on Monday?", "Is the pool open on Tuesday?"),
        ("Who won the cup in 2014?", "Who won the cup in 2018?"),
        ("Do you have a room in March?", "Do you have a room in May?"),
    ],
    "negation": [
        ("Which planets have moons?", "Which planets do not have moons?"),
        ("Is it legal to park here overnight?", "Is it legal not to park here overnight?"),
        ("Can I get a refund with a receipt?", "Can I get a refund without a receipt?"),
        ("Quels aliments contiennent du fer ?", "Quels aliments ne contiennent pas de fer ?"),
        ("Que faire si je paie à temps ?", "Que faire si je ne paie pas à temps ?"),
    ],
    "antonyms and prefixes": [
        ("How do I lock my card?", "How do I unlock my card?"),
        ("How do I turn on roaming?", "How do I turn off roaming?"),
        ("How do I opt in to the plan?", "How do I opt out of the plan?"),
        ("Is it safe to eat?", "Is it unsafe to eat?"),
        ("How can I become more patient?", "How can I become less patient?"),
        ("Comment activer le mode nuit ?", "Comment désactiver le mode nuit ?"),
    ],
    "names": [
        ("How do I get from Heathrow to Paddington?", "How do I get from Gatwick to Paddington?"),
        ("Is Anna Reed an engineer?", "Is Emma Reed an engineer?"),
        ("What is the capital of Australia?", "What is the capital of Austria?"),
        ("How do I cook for US guests?", "How do I cook for us guests?"),
        ("How do I peel an Apple?", "How do I peel an apple?"),
        ("Qui a écrit Les Misérables ?", "Qui a écrit Madame Bovary ?"),
    ],
    "quotes": [
        ('What does "chat" mean?', 'What does "chien" mean?'),
        ('What is the difference between "to" and "for"?', 'What is the difference between "to" and "with"?'),
        ("What is the difference between to and for?", "What is the difference between in and for?"),
    ],
    "order": [
        ("Convert kilometres to miles", "Convert miles to kilometres"),
        ("Transfer £50 from my savings to my current account", "Transfer £50 from my current account to my savings"),
        ("Does John like Mary?", "Does Mary like John?"),
        ("Did Emily need the building?", "Was Emily needed by the building?"),
        ("Comment convertir des kilomètres en miles ?", "Comment convertir des miles en kilomètres ?"),
    ],
    "question words": [
        ("How much time is left?", "How much is left?"),
        ("How many times have you been to Rome?", "How many people have been to Rome?"),
        ("When was the bridge built?", "Where was the bridge built?"),
        ("Why is the sea salty?", "Is the sea salty?"),
        ("How much sleep do I need?", "How do I sleep?"),
        ("Quand le pont a-t-il été construit ?", "Où le pont a-t-il été construit ?"),
    ],
    "modes and tenses": [
        ("Should I tip the driver?", "Can I tip the driver?"),
        ("Is Tom an actor?", "Did Tom use to be an actor?"),
        ("Is Tom an actor?", "Is Tom becoming an actor?"),
        ("Who is the mayor?", "Who was the mayor?"),
    ],
    "who speaks": [
        ("What is your name?", "What is my name?"),
        ("If John and Ann meet, who pays for his dinner?", "If John and Ann meet, who pays for her dinner?"),
    ],
    "prepositions": [
        ("Can I eat before the test?", "Can I eat after the test?"),
        ("Do you ship to Norway?", "Do you ship from Norway?"),
        ("Can I pay with a gift card?", "Can I pay for a gift card?"),
    ],
    "scope": [
        ("How do I get a refund on a gift?", "How do I get a refund on a gift card?"),
        ("How much holiday do full-time staff get?", "How much holiday do part-time staff get?"),
        ("What is my balance?", "What is my joint balance?"),
        ("Is Kim an auditor?", "Is Kim an excellent auditor?"),
    ],
    "either and both": [("Is Al a cook and a waiter?", "Is Al a cook or a waiter?")],
    "comparison": [
        ("Is tea better than coffee?", "Is coffee better than tea?"),
        ("Which is the oldest castle?", "Which is the newest castle?"),
    ],
    "languages": [("How do I cancel?", "Comment annuler ?"), ("Was kostet das?", "What does it cost?")],
    "hardly any words": [("What is it?", "Where is it?"), ("Who are you?", "Who am I?")],
    "names that look misspelt": [
        ("Who is Hansen?", "Who is Hanson?"),
        ("Is prednisone safe?", "Is prednisolone safe?"),
    ],
    "a superlative": [("What is the best way to make bread?", "What is the hardest way to make bread?")],
}


@pytest.mark.parametrize(
    ("kind", "one", "other"), [(kind, *pair) for kind, pairs in DIFFERENT.items() for pair in pairs]
)
def test_one_change_that_matters_makes_it_different(kind: str, one: str, other: str) -> None:
    assert closeness(one, other) == "different", kind


NOT_ONE = {
    "person": [
        ("How do you store my data?", "How do I store my data?"),
        ("Why did you block my account?", "Why did I block my account?"),
        ("Do you accept PayPal?", "Do I accept PayPal?"),
        ("Can you track my phone?", "Can I track my phone?"),
        ("Pouvez-vous livrer en Belgique ?", "Puis-je livrer en Belgique ?"),
        ("What should I do if someone bites me?", "What should I do if I bite someone?"),
        ("Can someone see my profile?", "Can I see my profile?"),
    ],
    "voice": [
        ("How do I get paid for overtime?", "How do I pay for overtime?"),
        ("Can I be refunded for a cancelled flight?", "Can I refund a cancelled flight?"),
        ("When are contractors paid?", "When do contractors pay?"),
        ("Comment être remboursé ?", "Comment rembourser ?"),
        ("Comment se faire embaucher ?", "Comment embaucher ?"),
        ("How are passwords stolen?", "How do I steal passwords?"),
        ("Is the fee paid by card?", "Does the card pay the fee?"),
    ],
    "participles": [
        ("How do I find deleted photos?", "How do I delete photos?"),
        ("How long can I keep cooked rice?", "How long do I cook rice?"),
        ("Où sont les fichiers supprimés ?", "Où supprimer les fichiers ?"),
    ],
    "what is wanted": [
        ("How do I become a lawyer?", "How do I get a lawyer?"),
        ("Tell me a joke about cats.", "What is a joke about cats?"),
        ("Could you give me a refund?", "What is a refund?"),
        ("Je voudrais une pizza.", "Comment faire une pizza ?"),
        ("I want to write a poem.", "How do I write a poem?"),
        ("How many pills for a dog?", "How much does a pill cost for a dog?"),
        ("Who should I pay rent to?", "Who should pay rent?"),
        ("Depuis quand êtes-vous ouverts ?", "Quand êtes-vous ouverts ?"),
    ],
    "negations": [
        ("Can I drive with no licence and no insurance?", "Can I drive with a licence and insurance?"),
        ("Why does my dog eat but not drink?", "Why does my dog not eat but drink?"),
        ("Puis-je voyager sans passeport ni visa ?", "Puis-je voyager avec un passeport et un visa ?"),
    ],
    "who and when": [
        ("Can I be bitten by a dog?", "Can a dog be bitten?"),
        ("Who was killed by Brutus?", "By whom was Brutus killed?"),
        ("Which contacts can message me?", "Which contacts can I message?"),
        ("On m'a licencié, que faire ?", "J'ai licencié, que faire ?"),
        ("Can I use someone's ticket?", "Can I use my ticket?"),
        ("What time does the shop open?", "What day does the shop open?"),
        ("Have you sent my order?", "Do you send my order?"),
        ("When can I cancel my contract?", "When should I cancel my contract?"),
        ("What is my credit score?", "What is a credit score?"),
        ("Do atoms have molecules?", "Are atoms molecules?"),
        ("Can you eat meat?", "Do you eat meat?"),
        ("How do I take out a loan?", "How do I get rid of a loan?"),
        ("How do I register as a tenant?", "How do I register a tenant?"),
        ("How do I sort my emails?", "How do I get my emails?"),
        ("What else do I need for a visa?", "What do I need for a visa?"),
    ],
    "relations": [
        ("How do I report to HR?", "How do I report HR?"),
        ("How do I complain to my landlord?", "How do I complain about my landlord?"),
        ("Can I vote for my brother?", "Can my brother vote?"),
        ("What is the country with the largest army?", "What is the largest country with an army?"),
        ("Should I buy a new phone or a laptop?", "Should I buy a new laptop or a phone?"),
        ("How do I cancel my life insurance?", "How do I cancel my insurance?"),
        ("how do i clean windows?", "How do I clean Windows?"),
        ("Comment enlever une tache ?", "Comment enlever une tâche ?"),
        ("Comment régler un problème de son ?", "Comment régler un problème ?"),
        ("How do I change my phone?", "How do I change my phone number?"),
    ],
}


@pytest.mark.parametrize(("kind", "one", "other"), [(kind, *pair) for kind, pairs in NOT_ONE.items() for pair in pairs])
def test_the_same_words_put_otherwise_are_not_the_same(kind: str, one: str, other: str) -> None:
    """Of a thousand pairs that someone wrote to get past the pair guard."""
    assert closeness(one, other) in ("different", "open"), kind


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Are you allowed to sue me?", "Am I allowed to sue you?"),
        ("Do you pay me?", "Do I pay you?"),
        ("What do I do if my cat scratches someone?", "What do I do if someone's cat scratches me?"),
        ("How do I charge my phone?", "How am I charged for my phone?"),
        ("Where can I park near the mill?", "Where is the park near the mill?"),
        ("Qui a gagné le tour ?", "Qui va gagner le tour ?"),
        ("Have the trains been on strike?", "Will the trains be on strike?"),
        ("Can my son use my bus pass?", "Can I use my son's bus pass?"),
        ("I bent a bike while parking, what now?", "Someone bent my bike while parking, what now?"),
        ("J'ai rayé une voiture, que faire ?", "Quelqu'un a rayé ma voiture, que faire ?"),
        ("All birds can fly", "Some birds can fly"),
        ("All cats are mammals, true?", "Some cats are mammals, true?"),
        ("Tous les oiseaux volent, non ?", "Certains oiseaux volent, non ?"),
    ],
)
def test_who_does_it_to_whom_and_how_many_do_counts(one: str, other: str) -> None:
    """Though the words that count are the same."""
    assert closeness(one, other) == "different"


def test_a_word_that_says_little_needs_more_similarity() -> None:
    """`near`, and the embedder has the last word."""
    assert (
        closeness("What are some inspiring books for students?", "What are the most inspiring books for students?")
        == "near"
    )
    assert closeness("How can I be a good singer?", "How do I become a good singer?") == "near"
    assert closeness("Who is better, Bach or Bartok?", "Who do you think is better, Bach or Bartok?") in (
        "same",
        "near",
    )
    assert closeness("When will I receive my tax form?", "When will I get my tax form?") == "near"


def test_another_kind_of_question_in_partly_other_words_needs_more_similarity() -> None:
    assert closeness("Are there good ways to store garlic bulbs?", "How should garlic bulbs be kept and stored?") in (
        "near",
        "different",
    )
    assert closeness("What is the safety of gel on a scar?", "Is it safe to put gel on a scar?") == "near"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How is linseed oil used?", "What is linseed oil?"),
        ("What is the most common owl in Finland?", "How common are owls in Finland?"),
        ("Is thyme good for a cough?", "Why is thyme considered good for a dry cough?"),
    ],
)
def test_another_kind_of_question_with_a_word_more_is_another(one: str, other: str) -> None:
    """Nothing stands in its place: that is no paraphrase, or the words do not tell."""
    assert closeness(one, other) in ("different", "open")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I sell a caravan online?", "How do I sell a caravan?"),
        ("How many days off do cooks get?", "How many days off do part-time cooks get?"),
        ("What is a system?", "What is a real-time system?"),
        ("How do I grow tomatoes organically?", "How do I grow tomatoes?"),
        ("What is a modern dancer?", "What is a dancer?"),
        ("Un homme lit et boit du thé.", "Un homme boit du thé."),
    ],
)
def test_a_word_more_that_narrows_what_is_asked_makes_it_different(one: str, other: str) -> None:
    assert closeness(one, other) == "different"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Does the policy cover a cracked screen?", "Are cracked screens covered by the policy?"),
        ("What do I do if the bank swallowed my card?", "My card got swallowed by the bank, what can I do?"),
        ("Who invented the telegraph?", "By whom was the telegraph invented?"),
        ("Who invented the telegraph?", "Who was the telegraph invented by?"),
        ("How do I calculate the area of a trapezium?", "How is the area of a trapezium calculated?"),
    ],
)
def test_the_passive_voice_is_the_active_one(one: str, other: str) -> None:
    assert closeness(one, other) == "same"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Did Italy beat Spain?", "Was Italy beaten by Spain?"),
        ("Who killed Caesar?", "Who was killed by Caesar?"),
        ("Was the bank robbed by the guard?", "Was the guard robbed by the bank?"),
        ("How is my salary paid?", "How do I pay my salary?"),
        ("Can you name a whale?", "Can a whale be named?"),
    ],
)
def test_but_not_with_roles_exchanged(one: str, other: str) -> None:
    assert closeness(one, other) in ("different", "open")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Will you write me a letter?", "How do I write a letter?"),
        ("Write a letter to my landlord", "I want to write a letter to my landlord"),
        ("I want you to cancel my order", "How do I cancel my order?"),
        ("Can you write a poem?", "Can I write a poem?"),
        ("What should I do when I change my address?", "How do I change my address?"),
        ("J'ai changé d'adresse, que faire ?", "Comment changer d'adresse ?"),
    ],
)
def test_a_wish_an_order_and_what_to_do_then_are_three_things(one: str, other: str) -> None:
    assert closeness(one, other) == "different"


def test_a_choice_may_be_named_in_either_order() -> None:
    """But not where clauses are chosen from: what is done to whom changes with it."""
    for one, other in (
        ("Which is cheaper, oil or gas?", "Which is cheaper, gas or oil?"),
        ("Is green tea or coffee healthier?", "Is coffee or green tea healthier?"),
        ("Dois-je louer ou acheter un vélo ?", "Dois-je acheter ou louer un vélo ?"),
    ):
        assert closeness(one, other) == "same"
    assert closeness("Does she fear me or do I annoy her?", "Does she annoy me or do I fear her?") == "different"
    assert closeness("Is oil or gas dearer than wood?", "Is oil or wood dearer than gas?") == "different"


def test_a_list_keeps_its_conjunction_when_a_word_is_left_out() -> None:
    one, other = (
        "What is the difference between envy and true jealousy?",
        "What is the difference between jealousy and envy?",
    )
    assert closeness(one, other) == "near"


OPEN = [
    ("Is the harbour bridge of steel?", "Is the harbour bridge of steel and painted green?"),
    ("How do I renew my passport before it is running out?", "What is the paperwork for renewing my passport?"),
    ("What can I put in the recycling bin?", "Which items go into the recycling bin at home?"),
    ("How do I get squirrels out of the attic?", "How can I keep squirrels away from my attic?"),
]


@pytest.mark.parametrize(("one", "other"), OPEN)
def test_of_a_pair_in_largely_other_words_the_words_do_not_tell(one: str, other: str) -> None:
    """Either way round."""
    assert closeness(one, other) == closeness(other, one) == "open"


@pytest.mark.parametrize(
    "said",
    [
        "Is the harbour bridge of steel and painted green at 12 metres?",
        "Is the harbour bridge not of steel and painted green?",
        "Is the harbour bridge of steel and painted by Susan Green?",
        "Is the harbour bridge the tallest of steel and painted green?",
        "Can the harbour bridge be of steel and painted green?",
        "Was the harbour bridge of steel and painted green?",
        "Is the steel of the harbour bridge painted green?",
    ],
    ids=["number", "negation", "name", "superlative", "mode", "tense", "order"],
)
def test_what_contradicts_is_never_open(said: str) -> None:
    """However much else is different too."""
    assert closeness("Is the harbour bridge of steel?", said) == "different"


ACROSS = [
    ("How do I cancel my order?", "Comment annuler ma commande ?"),
    ("What is the square root of 144?", "Quelle est la racine carrée de 144 ?"),
    ("What is the speed of light?", "Quelle est la vitesse de la lumière ?"),
]
NOT_ACROSS = [
    ("What is the square root of 144?", "Quelle est la racine carrée de 169 ?"),
    ("Which planets have moons?", "Quelles planètes n'ont pas de lune ?"),
    ("What is the boiling point of water?", "Quel est le point de congélation de l'eau ?"),
    ("How do I convert kilometres to miles?", "Comment convertir des miles en kilomètres ?"),
    ("What are the symptoms of diabetes?", "Quels sont les traitements du diabète ?"),
    ("Who is the president of Brazil?", "Qui est le président de l'Argentine ?"),
]


@pytest.mark.parametrize(("one", "other"), ACROSS)
def test_languages_are_crossed_where_that_is_allowed(one: str, other: str) -> None:
    assert closeness(one, other, "any") == "across"
    assert closeness(one, other) == "different"


@pytest.mark.parametrize(("one", "other"), NOT_ACROSS)
def test_what_differs_in_two_languages_is_different(one: str, other: str) -> None:
    assert closeness(one, other, "any") == "different"


def test_a_language_that_the_embedder_does_not_know_is_never_compared() -> None:
    english = PairGuard(tables(), languages=("en",))
    assert english.judge("Comment annuler ?", "Comment puis-je annuler ?").closeness == "different"
    assert english.judge("How do I cancel it?", "How can I cancel it?").closeness == "same"


def test_no_text_breaks_it() -> None:
    """Whatever a client sends: emptiness, signs, other scripts, enormous numbers."""
    texts = [
        "",
        "?",
        "...",
        "'",
        "\u200b",
        "7" * 300,
        "a" * 5000,
        "你好吗",
        "🙂🙂",
        "n't",
        "qu'",
        "- - -",
        '""',
        "of the",
        "between and",
        "1.2.3.4",
    ]
    for one in texts:
        for other in texts:
            closeness(one, other)
            closeness(one, other, "any")
        assert closeness(one, one) == "same"
