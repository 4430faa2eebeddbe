"""Whether two questions may have one answer, by their words alone.

A text is read once (`text`): spelled and cut (`tokens`), rid of politeness, asked for its kind (`question`), then word by word
(`word_reader`, `meanings`, `stem`), with its voice (`voice`) and what has no letters (`signs`). Two texts that were read are compared (`compare`):
what contradicts (`contradiction`), what only one of them says, in which order (`order`), misspelt or not (`spelling`), and at last what small words say
of who does what (`clauses`). Lists and patterns are data: `tables.yaml`.

Who changes a rule looks at both sides: `make eval` says what is served and what is not, `tests/unit/policies/pair_guard` holds a pair for every rule.
Of each rule that serves more, someone should try to get something past it before it is believed.
"""
