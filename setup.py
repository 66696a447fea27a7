"""What pyproject.toml cannot say: a wheel holds the folder data/ as ditlens/data."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithData(build_py):
    """Adds the shipped models and examples; an editable install reads them where they are."""

    def run(self) -> None:
        """Build, then copy the data beside the code."""
        super().run()
        if not self.editable_mode:
            self.copy_tree("data", str(Path(self.build_lib, "ditlens", "data")))


setup(cmdclass={"build_py": WithData})
