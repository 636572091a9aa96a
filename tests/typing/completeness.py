"""Ask pyright whether every public name of the installed package has a known type.

A type that pyright infers is fine; one that it cannot know would be Any to the package's users.
"""

from __future__ import annotations

import json
import subprocess
import sys

#: wrapt's own annotations leave the base of the proxy open; users meet the type of what they decorated instead.
ACCEPTED = {"resilient.wrapping.Guarded", "resilient.wrapping.GuardedObject"}


def main() -> int:
    """Print what is unknown; 0 when nothing is."""
    command = ["pyright", "--verifytypes", "resilient", "--ignoreexternal", "--outputjson"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    report = json.loads(result.stdout)["typeCompleteness"]
    exported = [symbol for symbol in report["symbols"] if symbol["isExported"]]
    unknown = [
        symbol
        for symbol in exported
        if not (symbol["isTypeKnown"] or symbol["isTypeAmbiguous"] or symbol["name"] in ACCEPTED)
    ]
    for symbol in unknown:
        reasons = [each["message"].replace("\n", " ") for each in symbol["diagnostics"]]
        print(f"{symbol['name']}: {'; '.join(reasons) or 'because of another name in this list'}")
    print(f"{len(exported)} public names, {len(unknown)} of unknown type")
    return 1 if unknown or not exported else 0


if __name__ == "__main__":
    sys.exit(main())
