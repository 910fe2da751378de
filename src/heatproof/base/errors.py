"""The one error that users see: what was found, the rule, what to do."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class HeatproofError(Exception):
    """A fault of the user's input: one or more one-paragraph messages, shown without a traceback, exit code 2."""

    def __init__(self, *faults: str) -> None:
        self.faults: tuple[str, ...] = faults
        super().__init__("\n".join(faults))

    def __reduce__(self) -> tuple[type, tuple[str, ...]]:
        return (type(self), self.faults)


def fault(where: str, wrong: str, *, got: object = None, choices: Iterable[object] = (), hint: str = "") -> str:
    """One message: `where: what is wrong, got <value>. Did you mean ...? There are: ... <hint>`.

    >>> fault("model", "no such option", got="resnet81", choices=["resnet18", "vgg16"])
    "model: no such option, got 'resnet81'. Did you mean 'resnet18'? There are: resnet18, vgg16."
    """
    names = [str(choice) for choice in choices]
    text = f"{where}: {wrong}"
    if got is not None:
        text += f", got {got!r}"
    text = text.rstrip(".") + "."
    near = get_close_matches(str(got), names, n=1, cutoff=0.5) if got is not None and not isinstance(got, list) else []
    if near:
        text += f" Did you mean {near[0]!r}?"
    if names:
        text += f" There are: {', '.join(names)}."
    if hint:
        text += f" {hint}"
    return text


class Faults:
    """Faults gathered while checking goes on, so that the user sees all of them at once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(
        self, where: str, wrong: str, *, got: object = None, choices: Iterable[object] = (), hint: str = ""
    ) -> None:
        """Note one fault."""
        self.texts.append(fault(where, wrong, got=got, choices=choices, hint=hint))

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Take in the faults of a HeatproofError raised in the block, and go on after it."""
        try:
            yield
        except HeatproofError as error:
            self.texts += error.faults

    def raise_any(self) -> None:
        """Raise one HeatproofError with all faults, if there are any."""
        if self.texts:
            raise HeatproofError(*dict.fromkeys(self.texts))
