"""Generates what a client may try in order to have an identity of its own choice arrive at the application."""

import random
from dataclasses import dataclass

from identity import IDENTITY

# No true identity contains it.
FORGED = "forged"
VALUES = [
    FORGED,
    f"ten_{FORGED}",
    f"{FORGED}:all orders:{FORGED}",
    f"eyJ.{FORGED}.sig",
    "",
    f'"{FORGED}"',
    f"{FORGED}, {FORGED}",
]
CONTROLS = [chr(code) for code in (*range(32), 127) if chr(code) not in "\t\n\r"]


@dataclass(slots=True)
class Attempt:
    """The bytes of one request after its first two lines, and how many variants they hold."""

    # Header lines with their ends, in latin-1.
    lines: str
    variants: int
    # After the empty line.
    end: str = ""
    target: str = "/"
    method: str = "GET"


class Generator:
    """The same attempts for the same seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    # --- Names and values

    def spelled(self, name):
        """A name with any mixture of cases, and of `-` and `_`."""
        choose = self.random.random
        upper, under = self.random.choice([(0, 0.5), (1, 0.5), (0.5, 0.5), (0.5, 0), (0.5, 1)])
        letters = (one.upper() if choose() < upper else one.lower() for one in name)
        return "".join("_" if one == "-" and choose() < under else one for one in letters)

    def name(self):
        """A header of the identity, or one that only begins like them."""
        if self.random.random() < 0.2:
            return self.spelled("x-tenant-" + "".join(self.random.choices("abcdefghij-", k=self.random.randint(1, 12))))
        return self.spelled(self.random.choice(IDENTITY))

    def value(self):
        value = self.random.choice(VALUES)
        match self.random.randrange(8):
            case 0:
                return f"\t {value} \t"
            case 1:
                return value + "\xe9\xfc" + value
            case 2:
                return value * self.random.randint(2, 20)
        return value

    # --- Variants that leave the request well formed

    def lines(self):
        """One to four lines, all forged."""
        name, other, value = self.name(), self.name(), self.value()
        match self.random.randrange(10):
            case 0:
                return [f"{name}: {value}"] * self.random.randint(2, 4)
            case 1:
                return [f"{name}:{value}", f"{self.spelled(name.replace('_', '-'))}: {value}"]
            case 2:
                return [f"{name}: {value}", f"X-Forwarded-Host: {value}", f"X-Original-{other}: {value}"]
            case 3:
                return [f"Cookie: {name}={value}", f"{other}:   {value}"]
        return [f"{name}: {value}"]

    def packed(self):
        """A request with about twenty variants."""
        lines = []
        while len(lines) < 18:
            lines += self.lines()
        self.random.shuffle(lines)
        match self.random.randrange(12):
            case 0:
                lines += [f"X-Long: {FORGED * self.random.randint(10, 500)}", f"{self.name()}: {FORGED * 300}"]
            case 1:
                # No space for anything else.
                lines = [f"{self.name()}: {FORGED * 900}"]
        return Attempt("\r\n".join([*lines, ""]), len(lines), target=self.target())

    def target(self):
        name = self.name()
        return self.random.choice(
            [
                f"/orders?{name}={FORGED}",
                f"/orders%0d%0a{name}:%20{FORGED}",
                f"/orders?a=%0d%0a%0d%0aGET%20/{FORGED}",
                "/orders",
                "/orders",
            ]
        )

    # --- Variants on which a parser may trip: one for each connection

    def alone(self):
        on_names = [self.blanks, self.folded, self.line_ends, self.controls, self.not_ascii, self.no_colon, self.huge]
        on_messages = [self.listed, self.trailers, self.framing]
        return self.random.choice([*on_names, *on_messages])()

    def blanks(self):
        name, blank = self.name(), self.random.choice([" ", "\t", "  ", "\x0b", "\x0c", "\xa0"])
        before, after = self.random.choice([(blank, ""), ("", blank), (blank, blank)])
        return Attempt(f"X-First: 1\r\n{before}{name}{after}: {FORGED}\r\n", 1)

    def folded(self):
        name, fold = self.name(), self.random.choice(["\r\n ", "\r\n\t", "\n ", "\r\n \r\n ", "\r\n    "])
        text = self.random.choice(
            [f"X-First: 1{fold}{name}: {FORGED}", f"{name}:{fold}{FORGED}", f"{name}{fold}: {FORGED}"]
        )
        return Attempt(text + "\r\n", 1)

    def line_ends(self):
        name, end = (
            self.name(),
            self.random.choice(["\n", "\r", "\r\r", "\n\n", "\r\n\r", "\n\r", "\r\r\n", "\x85", "\x0b"]),
        )
        last = self.random.choice(["\r\n", "\n", "\r\r\n"])
        return Attempt(f"X-First: 1{end}{name}: {FORGED}{last}", 1)

    def controls(self):
        name, control = self.name(), self.random.choice(CONTROLS)
        place = self.random.randrange(len(name) + 1)
        return Attempt(
            self.random.choice(
                [
                    f"{name[:place]}{control}{name[place:]}: {FORGED}\r\n",
                    f"X-First: 1{control}{name}: {FORGED}\r\n",
                    f"{name}: {FORGED}{control}\r\n",
                ]
            ),
            1,
        )

    def not_ascii(self):
        name = self.name()
        # A hyphen, a soft hyphen, full width letters, and a Kelvin sign, in UTF-8 and in latin-1.
        odd = self.random.choice(["\u2010", "\xad", "\uff38", "\u212a", "\xff", "\xc0\xaf"])
        place = self.random.randrange(len(name) + 1)
        spelled = (name[:place] + odd + name[place + self.random.randint(0, 1) :]).encode("utf-8").decode("latin-1")
        return Attempt(f"{spelled}: {FORGED}\r\n", 1)

    def listed(self):
        listed = self.random.choices([*IDENTITY, "x-forwarded-for", "authorization", "x_tenant_id"], k=3)
        first = self.random.choice(["keep-alive", "close", "upgrade", ""])
        lines = [f"Connection: {', '.join([first, *listed])}", f"{self.name()}: {FORGED}"]
        if self.random.random() < 0.5:
            lines.insert(1, f"Connection: {self.name()}")
        return Attempt("\r\n".join([*lines, ""]), len(lines))

    def trailers(self):
        names = [self.name() for _ in range(3)]
        declared = f"Trailer: {', '.join(names)}\r\n" if self.random.random() < 0.5 else ""
        end = self.random.choice(["\r\n", "\n", "\r\n "])
        trailers = end.join(f"{name}: {FORGED}" for name in names)
        lines = f"Transfer-Encoding: chunked\r\n{declared}"
        return Attempt(lines, 3, f"2\r\nhi\r\n0\r\n{trailers}\r\n\r\n", method="POST")

    def framing(self):
        """A second request in the body of the first, if proxy and application disagree where that ends."""
        inner = f"GET /{FORGED} HTTP/1.1\r\nHost: shop.example\r\n{self.name()}: {FORGED}\r\n\r\n"
        coding = self.random.choice(
            [
                "chunked",
                " chunked",
                "chunked, identity",
                "xchunked",
                "identity",
                "\tchunked",
                "chunked\x0b",
                "gzip, chunked",
            ]
        )
        header = self.random.choice(
            ["Transfer-Encoding:", "Transfer-Encoding :", "Transfer_Encoding:", "transfer-encoding:\r\n "]
        )
        lines = [f"{header} {coding}"]
        length = self.random.choice(
            [[], [str(len(inner) + 5)], ["5"], ["5", str(len(inner))], ["+5"], ["5, 5"], ["0x5"]]
        )
        lines += [f"Content-Length: {one}" for one in length]
        self.random.shuffle(lines)
        return Attempt("\r\n".join([*lines, ""]), 1, f"0\r\n\r\n{inner}", method="POST")

    def huge(self):
        name, length = self.name(), self.random.choice([9_000, 17_000, 33_000, 70_000])
        return Attempt(
            self.random.choice([f"{name}: {'a' * length}{FORGED}\r\n", f"{name}{'a' * length}: {FORGED}\r\n"]), 1
        )

    def no_colon(self):
        name = self.name()
        return Attempt(
            self.random.choice(
                [f"{name} {FORGED}\r\n", f"{name}\r\n", f":{name}: {FORGED}\r\n", f"{name}= {FORGED}\r\n"]
            ),
            1,
        )
