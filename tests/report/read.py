"""Reads a report as XML, which is stricter than HTML, and prints what is in it as JSON."""

import json
import sys
import xml.etree.ElementTree as ElementTree

root = ElementTree.fromstring(sys.stdin.buffer.read().decode())


def text(element):
    return "".join(element.itertext())


parts = {}
for element in root.iter():
    if "id" in element.attrib:
        rows = [[text(cell) for cell in row] for row in element.findall("tr")]
        parts[element.attrib["id"]] = rows or text(element)
print(json.dumps({
    "title": text(root.find("head/title")),
    "policy": [meta.attrib.get("content") for meta in root.iter("meta") if "http-equiv" in meta.attrib],
    "tags": sorted({element.tag for element in root.iter()}),
    "attributes": sorted({name for element in root.iter() for name in element.attrib}),
    "drawn": sum(1 for _ in root.find("body/svg").iter()),
    "lanes": [text(element) for element in root.find("body/svg").iter("text") if element.attrib["x"] == "0"],
    "notes": [text(element) for element in root.iter("p") if element.attrib.get("class") == "note"],
    "parts": parts,
}))
