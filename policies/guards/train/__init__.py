"""How the injection classifier is trained: `make train-guard`. Not part of the installed package."""
