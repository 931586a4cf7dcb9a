"""For `pip install .`: jmceln_core, and jmceln_ros without the messages, which only colcon can make."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
manifest = ElementTree.parse(ROOT / "package.xml").getroot()


def required(name: str) -> list[str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


extras = {name: required(name) for name in ("train", "render", "speech")}
extras["render"] += extras["train"]  # what renders writes a data set

setup(
    name="jmceln",
    version=manifest.findtext("version"),
    description="Referring image segmentation for robots: an image and a sentence in, the mask of what was meant out",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.10",
    install_requires=required("runtime"),
    extras_require=extras | {"all": sorted({line for lines in extras.values() for line in lines})},
    packages=[*find_packages(include=["jmceln_core*", "jmceln_ros*"]), "jmceln_core._config"],
    # Presets and bundled weights, where jmceln_core.config looks for them.
    package_dir={"jmceln_core._config": "config"},
    package_data={"jmceln_core._config": ["**/*"]},
)
