"""A matplotlib figure as SVG inside the page.

The page's policy allows no style attributes, so each becomes attributes of the element; black, white and
greys become classes, which page.css colours for light and dark. Texts stay texts.
"""

import io
import re
from xml.etree import ElementTree as ET

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from harness.report.figures import GREY, GRID, area

SVG, XLINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
CLASSES = {"#000000": "ink", "#ffffff": "paper", GREY: "soft", GRID: "grid"}
NO_DATES = {"Date": None, "Creator": None, "Format": None, "Type": None}
GROUP = f"{{{SVG}}}g"
REFERENCE = re.compile(r"#([\w-]+)")
# What says nothing: defaults, and the font, which is the page's.
PLAIN = re.compile(r"font-family=.*|stroke-dashoffset=0|transform=rotate\(-?0 .*")
BEYOND = re.compile(r"(\.\d\d)\d+")  # decimals of a point of 1/72 inch that nobody sees
ET.register_namespace("", SVG)


def inline_svg(figure: Figure, name: str, label: str) -> Markup:
    """The figure with a name for screen readers. name: begins all its ids, unlike in every figure."""
    written = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(written, format="svg", bbox_inches=area(figure), metadata=NO_DATES)
    root = ET.fromstring(written.getvalue())
    _drop(root)
    _drop_space(root)
    elements = list(root.iter())
    used = {found for e in elements for v in e.attrib.values() for found in REFERENCE.findall(v)}
    for element in elements:
        _plain_attributes(element)
        _rename(element, name, used)
        _shorten(element)
    _unwrap(root)
    view = root.attrib["viewBox"]
    root.attrib = {"viewBox": view, "role": "img", "aria-label": label, "class": "drawn"}
    return Markup(ET.tostring(root, encoding="unicode"))


def _drop(root: ET.Element) -> None:
    """Metadata and the style sheet, which would reach beyond the figure."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)


def _drop_space(root: ET.Element) -> None:
    """White space between elements."""
    for element in root.iter():
        if element.tag != f"{{{SVG}}}text" and not (element.text or "").strip():
            element.text = None
        element.tail = None


def _shorten(element: ET.Element) -> None:
    """Attributes without what nobody sees."""
    short = {key: BEYOND.sub(r"\1", " ".join(v.split())) for key, v in element.attrib.items()}
    element.attrib = {k: v for k, v in short.items() if not PLAIN.fullmatch(f"{k}={v}")}


def _unwrap(parent: ET.Element) -> None:
    """Take what is in groups that say nothing out of them."""
    for child in parent:
        _unwrap(child)
    inner = [
        list(child) if child.tag == GROUP and not child.attrib else [child] for child in parent
    ]
    parent[:] = [element for elements in inner for element in elements]


def _plain_attributes(element: ET.Element) -> None:
    style = element.attrib.pop("style", "")
    classes = []
    for part in filter(None, (text.strip() for text in style.split(";"))):
        key, _, value = (text.strip() for text in part.partition(":"))
        if key == "font":
            size = re.search(r"([\d.]+)px", value)
            key, value = "font-size", size[1] if size else "10"
        if key in ("fill", "stroke") and value in CLASSES:
            classes.append(f"{key}-{CLASSES[value]}")
        else:
            element.set(key, value)
    if classes:
        element.set("class", " ".join(classes))


def _rename(element: ET.Element, name: str, used: set[str]) -> None:
    """Ids of this figure alone, and of what is referred to alone."""
    own = element.attrib.pop("id", None)
    if own in used:
        element.set("id", f"{name}-{own}")
    if XLINK in element.attrib:
        element.set("href", element.attrib.pop(XLINK))
    for key, value in element.attrib.items():
        if key in ("href", "clip-path"):
            element.set(key, REFERENCE.sub(rf"#{name}-\1", value))
