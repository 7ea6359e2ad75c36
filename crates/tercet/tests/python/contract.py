"""Reads schemathesis' events (NDJSON) and prints, a line each, the failures that are faults: of the description, or of the server.

Everything else is counted by its title; docs/decisions/0087 says why it may be there.
"""

import json
import sys

FAULTS = (
    "not_a_server_error",
    "allow_header_conformance",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)


def checks(event):
    """Every check in an event: its name, whether it failed, and why."""
    if isinstance(event, dict):
        if "name" in event and event.get("status") in ("success", "failure"):
            yield event
        for value in event.values():
            yield from checks(value)
    elif isinstance(event, list):
        for value in event:
            yield from checks(value)


def main(path):
    seen, other, faults = 0, {}, []
    for line in open(path, encoding="utf-8"):
        event = json.loads(line)
        for check in checks(event):
            seen += 1
            if check["status"] != "failure":
                continue
            text = json.dumps(check)
            if check["name"] in FAULTS:
                faults.append(text)
            else:
                other[check["name"]] = other.get(check["name"], 0) + 1
    print(json.dumps({"checks": seen, "faults": faults[:20], "other": other}))


main(sys.argv[1])
