"""Memory faults: data and instruction aborts (Arm) and page faults (x86), their error codes in words."""

from __future__ import annotations

import random
from dataclasses import dataclass

import phrases
from event import Event

NULL_PAGE = "the null page"

REGIONS = {
    NULL_PAGE: "the null page at offset {offset}",
    "the stack guard page": "the guard page below a stack",
    "kernel text": "the kernel's code",
    "kernel rodata": "the kernel's constants",
    "kernel data": "the kernel's data",
    "kernel stack": "a kernel stack",
    "the kernel heap": "the kernel heap",
    "the model image": "the model image",
    "device memory": "device memory",
    "unmapped memory": "an unused part of memory",
    "the high half": "the high half of the address space",
    "no valid range": "a place outside every valid range",
    "a user page": "a user page",
}
"""The region of the fault address, as the kernel classes it, and how a sentence names it."""

ARM_FAULTS: dict[str, tuple[tuple[int, ...], str]] = {
    "translation fault": ((0, 1, 2, 3), "the page tables have no valid entry at level {level}"),
    "permission fault": ((1, 2, 3), "the entry at level {level} does not permit it"),
    "access flag fault": ((1, 2, 3), "the access flag of the entry at level {level} is clear"),
    "address size fault": ((0, 1, 2, 3), "the tables hold too large a physical address at level {level}"),
    "alignment fault": ((), "the address is not aligned for this access"),
    "external abort": ((), "the memory system answered with an error"),
    "TLB conflict": ((), "two TLB entries match the same address"),
    "external abort on a table walk": ((0, 1, 2, 3), "reading the page tables failed at level {level}"),
    "parity or ECC error": ((), "the memory system found a parity or ECC error"),
    "synchronous tag check fault": ((), "the tag of the pointer differs from the tag of the memory"),
}
"""The fault as a line says it, its levels, and what the hardware found."""
ARM_WEIGHTS = (8, 5, 1.5, 1.5, 2, 2, 0.8, 0.8, 0.8, 0.8)

X86_FAULTS = {
    "page not present": ("translation fault", "no page is mapped there"),
    "protection violation": ("permission fault", "the page does not permit it"),
    "reserved bit set": ("reserved bit", "a page table entry has a reserved bit set"),
}
"""The fault as a line says it, its name in `advice.txt`, and what the hardware found."""
X86_WEIGHTS = (6, 4, 1)

PRIVILEGES = {
    "EL0": ("user", "A user program"),
    "EL1": ("kernel", "Kernel code"),
    "user mode": ("user", "A user program"),
    "kernel mode": ("kernel", "Kernel code"),
}
"""The privilege as a line says it, its name in `advice.txt`, and who was running."""
GUARDS = {"EL0": "", "EL1": "PAN", "user mode": "", "kernel mode": "SMAP"}
"""What keeps that privilege out of user memory."""

TRIED = {
    "read": ("tried to read {place}", "attempted a read from {place}"),
    "write": ("tried to write to {place}", "attempted a write to {place}"),
    "execute": ("tried to run code in {place}", "jumped into {place}"),
}
ADVICE = [(heading.split("; "), sentences) for heading, sentences in phrases.read("advice.txt")]


@dataclass(frozen=True)
class Fault:
    """The fields of a memory fault."""

    head: str
    """How the line starts: what was taken and by which access."""
    words: str
    """The fault as the line says it."""
    finding: str
    """What the hardware found, as a sentence says it."""
    name: str
    """The fault's name in `advice.txt`."""
    access: str
    region: str
    privilege: str
    offset: str

    def advice(self) -> phrases.Sentences:
        """The likely cause and what to check next."""
        fields = (self.name, self.access, self.region, PRIVILEGES[self.privilege][0])
        for patterns, sentences in ADVICE:
            if all(p == "*" or f in p.split("/") for p, f in zip(patterns, fields, strict=True)):
                return sentences
        raise LookupError(f"no advice for {fields}")

    def event(self, kind: str) -> Event:
        """The event with all of its valid explanations."""
        at = f" at offset {self.offset}" if self.region == NULL_PAGE else ""
        line = f"{self.head}, {self.words}, address in {self.region}{at}, {self.privilege}"
        who, place = PRIVILEGES[self.privilege][1], REGIONS[self.region].format(offset=self.offset)
        happened = tuple(f"{who} {t.format(place=place)}, but {self.finding}." for t in TRIED[self.access])
        guard = GUARDS[self.privilege]
        advice = tuple(tuple(t.format(offset=self.offset, guard=guard) for t in s) for s in self.advice())
        # The level and the offset make no new case: a held-out fault is held out at each of them.
        combination = f"{self.head}, {self.name}, {self.region}, {self.privilege}"
        return Event(kind, line, combination, (happened, *advice))


def _region(rng: random.Random) -> str:
    """Any region, the null page most often."""
    return NULL_PAGE if rng.random() < 0.2 else rng.choice(list(REGIONS))


def _offset(rng: random.Random, fault: str) -> str:
    """A field's offset in the null page: mostly small and a multiple of 4 or 8, as in real structures."""
    if fault == "alignment fault":
        return hex(rng.randrange(1, 0x200, 2))
    if rng.random() < 0.15:
        return "0x0"
    limit = 0x100 if rng.random() < 0.6 else 0x1000
    step = 8 if rng.random() < 0.6 else rng.choice((1, 4))
    return hex(rng.randrange(0, limit, step))


def _arm(rng: random.Random, kind: str, access: str) -> Event:
    name = rng.choices(list(ARM_FAULTS), ARM_WEIGHTS)[0]
    levels, finding = ARM_FAULTS[name]
    level = rng.choice(levels) if levels else None
    return Fault(
        head=kind if access == "execute" else f"{kind}, {access}",
        words=name if level is None else f"{name} level {level}",
        finding=finding.format(level=level),
        name=name,
        access=access,
        region=_region(rng),
        privilege=rng.choices(("EL1", "EL0"), (3, 2))[0],
        offset=_offset(rng, name),
    ).event(kind)


def data_abort(rng: random.Random) -> Event:
    """`data abort, read|write, FAULT[ level N], address in REGION[ at offset 0xN], EL0|EL1`."""
    return _arm(rng, "data abort", rng.choice(("read", "write")))


def instruction_abort(rng: random.Random) -> Event:
    """`instruction abort, FAULT[ level N], address in REGION[ at offset 0xN], EL0|EL1`."""
    return _arm(rng, "instruction abort", "execute")


def page_fault(rng: random.Random) -> Event:
    """`page fault, read|write|execute, FAULT, address in REGION[ at offset 0xN], user mode|kernel mode`."""
    words = rng.choices(list(X86_FAULTS), X86_WEIGHTS)[0]
    name, finding = X86_FAULTS[words]
    access = rng.choices(("read", "write", "execute"), (3, 3, 2))[0]
    return Fault(
        head=f"page fault, {access}",
        words=words,
        finding=finding,
        name=name,
        access=access,
        region=_region(rng),
        privilege=rng.choice(("user mode", "kernel mode")),
        offset=_offset(rng, name),
    ).event("page fault")
