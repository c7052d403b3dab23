"""Made-up wheels of what the modules import, and the lists that name them: small, but installed by a real pip."""

from __future__ import annotations

import ensurepip
import hashlib
import io
import shutil
import sys
import zipfile
from pathlib import Path

PYTHON = "{}.{}".format(*sys.version_info)
# Package, module, source. boto3 has what the trial of an environment asks for.
SOURCES = {
    "boto3": ("boto3/__init__.py", "def client(*_args, **_options):\n    return None\n"),
    "botocore": ("botocore/session.py", "VERSION = 1\n"),
    "python-ulid": ("ulid/__init__.py", "VERSION = 1\n"),
    "isal": ("isal/isal_zlib.py", "VERSION = 1\n"),
}


def wheel(package: str, path: str, source: str, version: str = "1.0", tag: str = "py3-none-any") -> bytes:
    """A wheel of one module."""
    info = f"{package.replace('-', '_')}-{version}.dist-info"
    files = {
        path: source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in files) + f"{info}/RECORD,,\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return out.getvalue()


class Wheelhouse:
    """A directory of wheels, and the lists beside it as the role has them."""

    def __init__(self, root: Path) -> None:
        self.wheels, self.lists, self.optional = root / "wheels", root / "lists", root / "optional.txt"
        self.wheels.mkdir()
        self.lists.mkdir()
        self.optional.write_text("# a comment\nisal>=1,<2\n")
        for package, (path, source) in SOURCES.items():
            self.add(package, wheel(package, path, source))
        [pip] = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
        shutil.copy(pip, self.wheels)
        self.write_lists()

    def add(self, package: str, content: bytes, version: str = "1.0", tag: str = "py3-none-any") -> Path:
        """Put a wheel into the directory."""
        path = self.wheels / f"{package.replace('-', '_')}-{version}-{tag}.whl"
        path.write_bytes(content)
        return path

    def write_lists(self, *, unlisted: str = "") -> None:
        """List all that is in the directory now, for this Python and for 3.9."""
        lines = ["# made by a test\n"]
        for path in sorted(self.wheels.glob("*.whl")):
            name, version = path.name.split("-")[:2]
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if name != unlisted:
                lines.append(
                    f"{name.replace('_', '-')}=={version} \\\n    --hash=sha256:{digest} \\\n    --hash=sha256:{'0' * 64}\n"
                )
        for version in {"3.9", PYTHON}:
            (self.lists / f"python{version}.txt").write_text("".join(lines))

    def bundle(self, names: list[str]) -> bytes:
        """The wheels as ansible.builtin.assemble sends them."""
        out = b""
        for name in names:
            if out and not out.endswith(b"\n"):
                out += b"\n"
            out += (self.wheels / name).read_bytes()
        return out
