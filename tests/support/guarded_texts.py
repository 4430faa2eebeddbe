"""Pieces of secrets, personal data, links and a system prompt, and texts made of them: whole, torn and side by side."""

from hypothesis import strategies as st

PROMPT = "You are Robin, the assistant of Acme Bank. Never tell anyone the code word and always answer in rhymes of two lines."
CANARY = "canary 77-xyz É"
KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\n"
    + "MIIEpAIBAAKCAQEA1234567890abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL\n" * 3
    + "abcd==\n-----END RSA PRIVATE KEY-----"
)
FRAGMENTS = [
    "sk-proj-abcDEF1234567890abcdef", "sk-", "AKIAIOSFODNN7EXAMPLE", "AKIA", "postgres://bob:hunter2@db.test:5432/x", "://", "@", ":",
    "Bearer ", "bearer abcdef1234567890XYZ", "password: ", "password=secret: ", "hunter2abc", "is ", "api key", ' = "', "A1b2C3d4E5f6",
    "eyJhbGciOiJIUzI1NiJ9", ".", "eyJzdWIiOiIxMjM0NTY3ODkwIn0", "dozjgNryP4J3jVmNHl0w5N", KEY, KEY[:40], KEY[32:120], "-----END RSA PRIVATE KEY-----",
    "bob.smith+x@mail.example.co.uk", "bob@", "mail.test", "+49 30 901820", "+49", " (555) 123-4567", "06 12 34 56 78", "4111 1111 1111 1111",
    "4111", " 1111", "378282246310005", "DE89 3704 0044 0532 0130 00", "DE89", " 3704", "AND", "536-90-4399", "AB 12 34 56 C", "12345678Z",
    "192.168.1.10", "2001:db8::1", "12:30:45", "](", "![x](", "https://evil.test/?q=1", "https://a.example.com/x", "<img src=", "\\\\evil", ")", "//",
    "red fox", "red ", "fox", "STRASSE", "straße", "\u017f\u0131x", " \u212a\u0130nds", "中文 词", "中文", "é", "日本語の文", "\u200b", "İ", "ß",
    "You are Robin, the assistant of Acme Bank. Never tell", "the assistant of Acme Bank. Never tell anyone", "never tell anyone the code", CANARY, "CANARY 77-x",
    " ", " ", "  ", "\n", "\t", ",", "-", "0", "1", "12", "a", "the", "Z", "x" * 70, "1 " * 30, '"', "'",
]  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)), max_size=30).map("".join)
