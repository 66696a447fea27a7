"""What pyproject.toml cannot say: a wheel holds data/ as ditlens/data, with notebooks and the playground in it."""

import json
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithData(build_py):
    """Adds the shipped models, examples, notebooks and page; an editable install reads them where they are."""

    def run(self) -> None:
        """Build, then copy what lies beside the code; notebooks without their outputs, which are large."""
        super().run()
        if self.editable_mode:
            return
        data = Path(self.build_lib, "ditlens", "data")
        self.copy_tree("data", str(data))
        for name in ("src", "data"):
            self.copy_tree(f"playground/{name}", str(data / "playground" / name))
        for name in ("index.html", "style.css", "package.json", "package-lock.json"):
            self.copy_file(f"playground/{name}", str(data / "playground" / name))
        self.copy_tree("notebooks/source", str(data / "notebooks" / "source"))
        self.copy_file("docs/reference/glossary.md", str(data / "notebooks" / "glossary.md"))
        for path in Path("notebooks").glob("*.ipynb"):
            nb = json.loads(path.read_text("utf-8"))
            for cell in nb["cells"]:
                if cell["cell_type"] == "code":
                    cell.update(outputs=[], execution_count=None)
            (data / "notebooks" / path.name).write_text(json.dumps(nb, indent=1, ensure_ascii=False), "utf-8")


setup(cmdclass={"build_py": WithData})
