"""Reads short Python programs of a command line: what they remove, write, read and run.

Rules kept here:
- Nothing is executed. Strings are folded (`'a' + 'b'`, joins, `Path`, f-strings, simple assignments) as far
  as they are constant.
- A mutating call on a path that cannot be folded, and code that builds code, is opaque.
"""

from __future__ import annotations

import ast

from agentgov.gates.effect import Action
from agentgov.gates.patterns import UNKNOWN
from agentgov.gates.scope import MAX_VALUE_CHARS, MAX_VALUES, Scope

_REMOVES = frozenset({"rmtree", "remove", "unlink", "rmdir", "removedirs"})
_MOVES = frozenset({"move", "rename", "renames", "replace"})
_COPIES = frozenset({"copy", "copy2", "copyfile", "copytree", "symlink", "link"})
_WRITES = frozenset(
    {
        "write_text",
        "write_bytes",
        "touch",
        "mkdir",
        "makedirs",
        "truncate",
        "chmod",
        "symlink_to",
        "hardlink_to",
    }
)
_READS = frozenset({"read_text", "read_bytes"})
_RUNS = frozenset(
    {"system", "popen", "run", "call", "check_call", "check_output", "Popen", "getoutput", "getstatusoutput"}
)
_BUILDERS = frozenset(
    {
        "eval",
        "exec",
        "compile",
        "__import__",
        "getattr",
        "b64decode",
        "fromhex",
        "import_module",
        "chr",
        "execv",
        "execvp",
        "spawnv",
        "CDLL",
    }
)
_PATH_MAKERS = frozenset(
    {
        "Path",
        "PurePath",
        "PosixPath",
        "str",
        "abspath",
        "realpath",
        "fspath",
        "normpath",
        "expanduser",
        "resolve",
        "absolute",
        "open",
    }
)
MAX_CODE_CHARS = 64 * 1024


def read_python(code: str, scope: Scope) -> None:
    """Adds the effects of a Python program to the scope."""
    try:
        if len(code) > MAX_CODE_CHARS:
            raise ValueError
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        scope.opaque(code)
        return
    _Reader(code, scope).visit(tree)


class _Reader(ast.NodeVisitor):
    def __init__(self, code: str, scope: Scope) -> None:
        self.code = code
        self.scope = scope
        self.values: dict[str, tuple[str, ...]] = {}

    def fold(self, node: ast.AST | None) -> tuple[str, ...]:
        """The strings an expression may be; UNKNOWN stands for the rest."""
        # `a = a + a`, forty times, would fill the memory.
        found = tuple(value if len(value) <= MAX_VALUE_CHARS else UNKNOWN for value in self._fold(node))
        return found if len(found) <= MAX_VALUES else (*found[: MAX_VALUES - 1], UNKNOWN)

    def _fold(self, node: ast.AST | None) -> tuple[str, ...]:
        if isinstance(node, ast.Constant):
            if isinstance(node.value, bytes):
                return (node.value.decode("utf-8", "surrogateescape"),)
            return (str(node.value),)
        if isinstance(node, ast.Name):
            return self.values.get(node.id, (UNKNOWN,))
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Div)):
            slash = "/" if isinstance(node.op, ast.Div) else ""
            return tuple(f"{a}{slash}{b}" for a in self.fold(node.left) for b in self.fold(node.right))[:32]
        if isinstance(node, ast.JoinedStr):
            joined = [""]
            for part in node.values:
                inner = part.value if isinstance(part, ast.FormattedValue) else part
                joined = [f"{a}{b}"[: MAX_VALUE_CHARS + 1] for a in joined for b in self.fold(inner)][:32]
            return tuple(joined)
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return tuple(value for item in node.elts for value in self.fold(item))[:64]
        if isinstance(node, ast.Call):
            return self._fold_call(node)
        if isinstance(node, ast.Attribute) and node.attr in ("parent", "name", "path"):
            return self.fold(node.value) if node.attr != "parent" else (UNKNOWN,)
        return (UNKNOWN,)

    def _fold_call(self, node: ast.Call) -> tuple[str, ...]:
        name = _name(node.func)
        if name == "join" and isinstance(node.func, ast.Attribute):
            separators = self.fold(node.func.value)
            if UNKNOWN in separators[0] or isinstance(node.func.value, (ast.Name, ast.Attribute)):
                return ("/".join(self.fold(arg)[0] for arg in node.args),)
            return (separators[0].join(self.fold(node.args[0])),) if node.args else (UNKNOWN,)
        if name in ("glob", "rglob", "iglob", "iterdir", "listdir", "scandir", "walk"):
            base = (
                self.fold(node.func.value)
                if isinstance(node.func, ast.Attribute) and name in ("rglob", "iterdir")
                else ()
            )
            found = (*base, *(value.split("*")[0] or "." for arg in node.args for value in self.fold(arg)))
            return tuple(value for value in found if UNKNOWN not in value) or (UNKNOWN,)
        if name == "home":
            return (self.scope.places.home or UNKNOWN,)
        if name in ("getcwd", "cwd"):
            return self.scope.folders
        if name == "expanduser" and node.args and self.scope.places.home:
            return tuple(value.replace("~", self.scope.places.home, 1) for value in self.fold(node.args[0]))
        if name in _PATH_MAKERS:
            if node.args:
                return ("/".join(self.fold(arg)[0] for arg in node.args),)
            return self.fold(node.func.value) if isinstance(node.func, ast.Attribute) else (".",)
        return (UNKNOWN,)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.values[target.id] = self.fold(node.value)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        if isinstance(node.target, ast.Name):
            self.values[node.target.id] = self.fold(node.iter)
        elif isinstance(node.target, ast.Tuple):
            for item in node.target.elts:
                if isinstance(item, ast.Name):
                    self.values[item.id] = self.fold(node.iter)
        self.generic_visit(node)

    def _visit_comprehension(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp) -> None:
        for generator in node.generators:
            if isinstance(generator.target, ast.Name):
                self.values[generator.target.id] = self.fold(generator.iter)
        self.generic_visit(node)

    visit_ListComp = visit_GeneratorExp = visit_SetComp = _visit_comprehension  # noqa: N815

    def visit_Import(self, node: ast.Import) -> None:
        if any(alias.name.split(".")[0] in ("ctypes", "base64", "marshal", "codecs") for alias in node.names):
            self.scope.opaque(self.code)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        # `from os import remove as r`: the new name is the old one.
        for alias in node.names:
            if alias.asname and alias.name in _REMOVES | _MOVES | _RUNS | _COPIES:
                self.scope.opaque(self.code)

    def visit_Call(self, node: ast.Call) -> None:
        name = _name(node.func)
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        is_module = isinstance(owner, ast.Name) and owner.id in (
            "os",
            "shutil",
            "subprocess",
            "sp",
            "pathlib",
        )
        subject = node.args[0] if node.args and (is_module or owner is None) else owner
        if name in _REMOVES and (is_module or owner is None or name in ("unlink", "rmdir")):
            self._touch("fs.delete", subject, recursive=name in ("rmtree", "removedirs"))
        elif name in _MOVES and (is_module or name == "move" or (len(node.args) == 1 and name != "replace")):
            self._touch("fs.delete", subject, recursive=True)
            self._touch("fs.write", node.args[-1] if node.args else None)
        elif name in _COPIES and (is_module or owner is None):
            self._touch("fs.read", subject)
            self._touch("fs.write", node.args[-1] if node.args else None)
        elif name in _WRITES:
            self._touch("fs.write", subject)
        elif name in ("dotenv_values", "load_dotenv") and node.args:
            self._touch("fs.read", node.args[0])
        elif name in _READS:
            self._touch("fs.read", subject)
        elif name == "open":
            self._open(node, owner, is_module=is_module)
        elif name in _RUNS and (is_module or owner is None or name not in ("run", "call")):
            self._run(node)
        elif name == "chdir":
            self.scope.enter(self.scope.absolute(self.fold(subject)[0]))
        elif name in _BUILDERS:
            self.scope.opaque(self.code)
        elif name in ("urlopen", "urlretrieve"):
            from agentgov.gates.netcmd import connect_url

            for value in self.fold(subject):
                connect_url(value, self.scope)
        if any(isinstance(argument, ast.Attribute) and argument.attr in _REMOVES for argument in node.args):
            # `map(os.remove, names)`: a function that is handed on is called with what is next to it.
            for argument in node.args:
                if not isinstance(argument, ast.Attribute):
                    self._touch("fs.delete", argument, recursive=True)
        self.generic_visit(node)

    def _open(self, node: ast.Call, owner: ast.AST | None, *, is_module: bool) -> None:
        path = owner if owner is not None and not is_module and not isinstance(owner, ast.Name) else None
        arguments = list(node.args)
        if path is None and arguments:
            path = arguments.pop(0)
        mode = next(
            (keyword.value for keyword in node.keywords if keyword.arg == "mode"),
            arguments[0] if arguments else None,
        )
        modes = self.fold(mode) if mode is not None else ("r",)
        writes = any(set(value) & set("wax+" + UNKNOWN) for value in modes)
        self._touch("fs.write" if writes else "fs.read", path)

    def _run(self, node: ast.Call) -> None:
        from agentgov.gates.commands import run_words
        from agentgov.gates.scope import Feed
        from agentgov.gates.shell import read_shell

        if not node.args:
            self.scope.opaque(self.code)
            return
        inner = self.scope.fork(deeper=True)
        if isinstance(node.args[0], (ast.List, ast.Tuple)):
            run_words([self.fold(item) for item in node.args[0].elts], inner, Feed(), {}, self.code)
            return
        for value in self.fold(node.args[0]):
            if UNKNOWN in value:
                self.scope.opaque(self.code)
            read_shell(value.replace(UNKNOWN, "$UNKNOWN_"), inner)

    def _touch(self, action: Action, node: ast.AST | None, *, recursive: bool = False) -> None:
        for value in self.fold(node):
            if UNKNOWN in value and action != "fs.read":
                self.scope.opaque(self.code)
            if not value.startswith(UNKNOWN):
                self.scope.touch(action, (value,), recursive=recursive)


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
