"""test_readme.py ROOT: every test that README names is there, and its section "Files" names one in each sentence; TAP.

A test is named as a file, `test_X.sh` or `tests/DIRECTORY/test_X.c`, or as a case, `X.sh: words`: the words are in a
string of tests/mount/test_X.sh, or of the script X.sh that it runs. `X.py: words` is in tests/mount/test_X.py, and
`X.c: words` in the name of a case of tests/unit/test_X.c.
"""
import os
import re
import sys

ROOT = sys.argv[1]
points = failed = 0


def check(name, wrong):
    global points, failed
    points += 1
    failed += bool(wrong)
    print(f"{'not ok' if wrong else 'ok'} {points} - {name}")
    for line in wrong:
        print(f"# {line}")


def files_of(name):
    """Where the cases of that name are."""
    directory = "tests/unit" if name.endswith(".c") else "tests/mount"
    paths = [os.path.join(ROOT, directory, prefix + name) for prefix in ("test_", "")]
    return [path for path in paths if os.path.exists(path)]


def has_case(path, words):
    comment = ("//", "/*", "*") if path.endswith(".c") else ("#",)
    in_string = re.compile(r"""(["'])(?:(?!\1).)*""" + re.escape(words))
    with open(path, encoding="utf-8") as file:
        return any(in_string.search(line) for line in file if not line.lstrip().startswith(comment))


def missing_cases(text):
    for name, words in cases(text):
        paths = files_of(name)
        if not paths:
            yield f"`{name}: {words}`: there is no test_{name}"
        elif not any(has_case(path, words) for path in paths):
            yield f"`{name}: {words}`: no such case in {', '.join(os.path.relpath(path, ROOT) for path in paths)}"


def cases(text):
    return re.findall(r"`([a-z][a-z0-9_]*\.(?:sh|py|c)): ([^`]+)`", text)


def missing_files(text):
    everywhere = {name for _, _, names in os.walk(os.path.join(ROOT, "tests")) for name in names}
    for path in sorted(set(re.findall(r"\b(?:tests/[\w/]*)?test_\w+\.(?:sh|py|c)\b", text))):
        there = os.path.exists(os.path.join(ROOT, path)) if "/" in path else path in everywhere
        if not there:
            yield f"{path} is not there"


def without_code(text):
    return re.sub(r"^    .*$", "", text, flags=re.M)


def section(text, title):
    found = re.search(rf"^## {title}\n(.*?)(?=^## )", text, re.M | re.S)
    return found.group(1) if found else ""


def sentences(text):
    """Rows of tables, and the sentences of everything else; headings say nothing."""
    blocks = re.split(r"\n\s*\n|\n(?=- |\| )", text.strip())
    for block in blocks:
        block = " ".join(block.split())
        if block.startswith("|"):
            if not re.match(r"\|[-| ]+\|$|\| operation ", block):
                yield block
        elif block and not block.startswith("#"):
            yield from re.split(r"(?<=[.!?]) (?=[A-Z`*\"])", block.removeprefix("- "))


def unshown(text):
    for sentence in sentences(text):
        if not cases(sentence) and not sentence.endswith(":"):
            yield sentence


def main():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        text = without_code(file.read())
    files = section(text, "Files")
    check("README has a section Files that names tests", [] if len(cases(files)) > 50 else [f"{len(cases(files))} cases"])
    check("every test file that README names is there", list(missing_files(text)))
    check("every case that README names is there", list(missing_cases(text)))
    check("every sentence of the section Files names the case that shows it", list(unshown(files)))
    # This check itself.
    made_up = "A sentence. `semantics.sh: no such case`\n\n- Another one (`nosuchtest.c: x`).\n| row | `semantics.sh: mkdir is one change` |\n"
    check("what is made up is found out", [] if len(list(missing_cases(made_up))) == 2 and len(list(unshown(made_up))) == 1
          and list(missing_files("see test_nosuchtest.sh")) else ["it is not"])
    print(f"1..{points}")
    return 1 if failed else 0


sys.exit(main())
