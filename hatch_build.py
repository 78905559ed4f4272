"""Compiles the optional listener where `DROMOS_COMPILE=1` asks for it, and else does nothing.

Hatchling calls it for each wheel.  `make compiled` runs it by hand, to compile in place.
"""

import os
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

__all__ = ["CompiledListener", "compile_into"]

ROOT: Final = Path(__file__).parent
SOURCE: Final = Path("src/dromos/dialers/_compiled.pyx")


def compile_into(top: Path) -> Path:
    """Compile for the Python and the picows that run this; return the file, in its package."""
    from Cython.Build import cythonize
    from picows.version import __version__ as picows_version
    from setuptools import Distribution, Extension

    # Under this name, and so with this version only, `dromos.dialers._choice` finds it.
    name = "dromos.dialers._compiled_for_picows_" + re.sub(r"\W", "_", picows_version)
    with tempfile.TemporaryDirectory(prefix="dromos-compile-") as scratch:
        extensions = cythonize([Extension(name, [str(SOURCE)])], build_dir=scratch, quiet=True)
        build: Any = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
        build.build_lib, build.build_temp = str(top), scratch
        build.ensure_finalized()
        build.run()
        (built,) = build.get_outputs()
    return Path(built)


class CompiledListener(BuildHookInterface[Any]):
    """Puts the compiled listener into a wheel, which then is for one platform and one Python."""

    wanted = os.environ.get("DROMOS_COMPILE") == "1"

    def dependencies(self) -> list[str]:
        """Ask for a compiler's tools, and for the picows that would be installed now."""
        if not self.wanted:
            return []
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        engine = [one for one in project["project"]["dependencies"] if one.startswith("picows")]
        return [*project["dependency-groups"]["compile"], *engine]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, in place where the installation is editable."""
        if not self.wanted:
            return
        if version == "editable":
            compile_into(ROOT / "src")
            return
        self._made = tempfile.TemporaryDirectory(prefix="dromos-compiled-")
        built = compile_into(Path(self._made.name))
        build_data["force_include"][str(built)] = f"dromos/dialers/{built.name}"
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was only made for the wheel."""
        if self.wanted and version != "editable":
            self._made.cleanup()


if __name__ == "__main__":
    os.chdir(ROOT)
    print(compile_into(ROOT / "src").relative_to(ROOT))
