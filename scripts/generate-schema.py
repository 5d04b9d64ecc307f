#!/usr/bin/env python3
"""Generates control-plane/machinery/data/schema.txt.gz, the schema table of every built-in type.

Input, facts only (names, types, defaults, list types, merge keys; no sentences):
  --openapi DIR   the OpenAPI v3 documents of a Kubernetes API server (one JSON file per group-version)
  --go GITDIR     a git directory with the Kubernetes Go API types under --go-prefix (staging/src/k8s.io/...):
                  pointer or value, omitempty, inlined structs, named types, protobuf field numbers

The format is one line per definition ("T") followed by one line per property ("F"); it is described and
parsed in control-plane/machinery/src/schema/table.rs.
"""

import argparse
import glob
import gzip
import json
import re
import subprocess

REF = "#/components/schemas/"
SCALARS = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "q",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "x",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "T",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "M",
}
GO_SCALARS = {"s": "string", "t": "bool", "i": "int32", "l": "int64", "d": "float64", "b": "[]uint8",
              "q": "resource.Quantity", "x": "intstr.IntOrString", "T": "v1.Time", "M": "v1.MicroTime"}


def load_definitions(folder):
    """Merges the schemas of all documents; definitions shared by documents differ only in their kinds."""
    definitions = {}
    for path in sorted(glob.glob(folder + "/*.json")):
        document = json.load(open(path))
        for name, schema in document.get("components", {}).get("schemas", {}).items():
            known = definitions.setdefault(name, schema)
            kinds = known.get("x-kubernetes-group-version-kind")
            for kind in schema.get("x-kubernetes-group-version-kind", []):
                if kind not in kinds:
                    kinds.append(kind)
    return definitions


def reference(schema):
    if "$ref" in schema:
        return schema["$ref"][len(REF):]
    if len(schema.get("allOf", [])) == 1:
        return schema["allOf"][0]["$ref"][len(REF):]
    return None


class Types:
    """Turns OpenAPI schemas into the table's type codes."""

    def __init__(self, definitions):
        self.definitions = definitions
        self.index = {name: i for i, name in enumerate(sorted(definitions))}

    def code(self, schema):
        target = reference(schema)
        if target:
            return SCALARS.get(target) or "@%d" % self.index[target]
        kind, form = schema.get("type"), schema.get("format")
        if kind == "string":
            return {"byte": "b", "date-time": "T"}.get(form, "s")
        if kind == "boolean":
            return "t"
        if kind == "integer":
            return {"int32": "i", "int64": "l"}[form]
        if kind == "number":
            return "d"
        if kind == "array":
            return "[" + self.code(schema["items"])
        if kind == "object" and "additionalProperties" in schema:
            return "{" + self.code(schema["additionalProperties"])
        return "*"


class GoTypes:
    """Reads struct fields of the Go API packages from a git directory."""

    def __init__(self, git, prefix):
        self.git, self.prefix, self.packages = git, prefix, {}

    def show(self, *arguments):
        return subprocess.run(["git", "-C", self.git, *arguments], capture_output=True, text=True).stdout

    def package(self, path):
        if path not in self.packages:
            folder = self.prefix + "/" + path + "/"
            structs, named = {}, {}
            for name in self.show("ls-tree", "--name-only", "HEAD", folder).split():
                if name.endswith(".go") and "_test" not in name and "zz_" not in name and "generated" not in name:
                    self.parse(self.show("show", "HEAD:" + name), path, structs, named)
            self.packages[path] = (structs, named)
        return self.packages[path]

    def parse(self, text, path, structs, named):
        imports = {}
        block = re.search(r"^import \((.*?)^\)", text, re.S | re.M)
        lines = (block.group(1) if block else "").splitlines()
        for line in lines + re.findall(r"^import (.*\".*\")", text, re.M):
            found = re.match(r'\s*(?:(\w+)\s+)?"([^"]+)"', line)
            if found:
                imports[found.group(1) or found.group(2).split("/")[-1]] = found.group(2)
        for name, body in re.findall(r"^type (\w+) struct \{\n(.*?)^\}", text, re.S | re.M):
            fields = []
            for line in body.splitlines():
                found = re.match(r"\s*(?:(\w+)\s+)?([\w.*\[\]]+)\s+`(.*)`", line)
                if found:
                    fields.append((found.group(1), found.group(2), found.group(3), imports))
            structs[name] = fields
        for name, target in re.findall(r"^type (\w+) =? ?([\w\[\].]+)$", text, re.M):
            named[name] = (target, imports)

    @staticmethod
    def path_of(definition):
        """io.k8s.api.apps.v1.Deployment -> (api/apps/v1, Deployment)"""
        parts = definition.split(".")
        assert parts[:2] == ["io", "k8s"], definition
        return "/".join(parts[2:-1]), parts[-1]

    def spelled(self, go_type, path, imports):
        """The type as Go's reflect package prints it: with the last element of its package's path."""
        package = path.split("/")[-1]
        if go_type.startswith("*"):
            return "*" + self.spelled(go_type[1:], path, imports)
        if go_type.startswith("[]"):
            return "[]" + self.spelled(go_type[2:], path, imports)
        found = re.match(r"map\[([\w.]+)\](.*)", go_type)
        if found:
            return "map[%s]%s" % (self.spelled(found.group(1), path, imports), self.spelled(found.group(2), path, imports))
        if "." in go_type:
            alias, name = go_type.split(".")
            return imports[alias].split("/")[-1] + "." + name
        if go_type[0].islower():
            return {"byte": "uint8"}.get(go_type, go_type)
        return package + "." + go_type

    def locate(self, go_type, path, imports):
        if "." in go_type:
            alias, name = go_type.split(".")
            return imports[alias].removeprefix("k8s.io/"), name
        return path, go_type

    def fields(self, definition):
        """JSON name -> facts of every field of the struct, inlined structs flattened."""
        path, name = self.path_of(definition)
        return self.struct_fields(path, name, [])

    def struct_fields(self, path, name, embeds):
        found = {}
        structs, named = self.package(path)
        if name not in structs and name in named:
            target, imports = named[name]
            return self.struct_fields(*self.locate(target, path, imports), embeds)
        for field, go_type, tags, imports in structs.get(name, []):
            tag = re.search(r'json:"([^"]*)"', tags)
            number = re.search(r'protobuf:"\w+,(\d+),', tags)
            if not tag or tag.group(1) == "-":
                continue
            json_name, *options = tag.group(1).split(",")
            if not json_name:
                where, target = self.locate(go_type.lstrip("*"), path, imports)
                inner = embeds + [(target, number.group(1) if number else "0")]
                for key, value in self.struct_fields(where, target, inner).items():
                    found.setdefault(key, value)
                continue
            found[json_name] = {
                "pointer": go_type.startswith("*"),
                "omitempty": "omitempty" in options,
                "omitzero": "omitzero" in options,
                "go": self.spelled(go_type.lstrip("*"), path, imports),
                "number": number.group(1) if number else None,
                "embeds": embeds,
            }
        return found


def derived_go(code, names):
    """What Rust derives for a type code; a field only records its Go type where that differs."""
    if code.startswith("@"):
        path, name = GoTypes.path_of(names[int(code[1:])])
        return path.split("/")[-1] + "." + name
    if code.startswith("["):
        return "[]" + derived_go(code[1:], names)
    if code.startswith("{"):
        return "map[string]" + derived_go(code[1:], names)
    return GO_SCALARS.get(code, "*")


ZERO = {"s": "", "t": False, "i": 0, "l": 0, "d": 0}


def field_line(name, schema, required, code, facts, names):
    line = ["F", name, code]
    flags = "r" if name in required else ""
    if facts:
        flags += "p" if facts["pointer"] else ""
        flags += "o" if facts["omitempty"] else ""
        flags += "z" if facts["omitzero"] else ""
    if "default" in schema:
        value = schema["default"]
        if value == {} or ZERO.get(code, None) == value and type(ZERO.get(code)) is type(value):
            flags += "d"
        else:
            line.append("D=" + json.dumps(value, separators=(",", ":")))
    if flags:
        line.insert(3, flags)
    else:
        line.insert(3, "-")
    if "x-kubernetes-list-type" in schema:
        keys = schema.get("x-kubernetes-list-map-keys")
        line.append("L=" + schema["x-kubernetes-list-type"] + (":" + ",".join(keys) if keys else ""))
    if "x-kubernetes-map-type" in schema:
        line.append("M=" + schema["x-kubernetes-map-type"])
    if "x-kubernetes-patch-strategy" in schema:
        line.append("S=" + schema["x-kubernetes-patch-strategy"])
    if "x-kubernetes-patch-merge-key" in schema:
        line.append("K=" + schema["x-kubernetes-patch-merge-key"])
    if facts:
        if facts["number"]:
            line.append("N=" + facts["number"])
        if facts["embeds"]:
            line.append("V=" + ",".join("%s:%s" % embed for embed in facts["embeds"]))
        if re.sub(r"\]\*", "]", facts["go"]) != derived_go(code, names):
            line.append("G=" + facts["go"])
    return " ".join(line)


def generate(definitions, go):
    types = Types(definitions)
    names = sorted(definitions)
    lines = []
    for name in names:
        schema = definitions[name]
        form = "-"
        if name in SCALARS:
            form = "scalar"
        elif "properties" not in schema:
            # RawExtension, JSON and their like hold any value; a struct without fields holds nothing.
            known = GoTypes.path_of(name)[1] in go.package(GoTypes.path_of(name)[0])[0]
            opaque = known and name.split(".")[-1] in (
                "FieldsV1", "Patch", "RawExtension", "JSON", "JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool",
                "JSONSchemaPropsOrStringArray")
            form = "any" if opaque else "empty"
        elif schema.get("x-kubernetes-map-type"):
            form = schema["x-kubernetes-map-type"]
        line = ["T", name, form]
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            line.append("%s/%s/%s" % (kind["group"], kind["version"], kind["kind"]))
        if "x-kubernetes-unions" in schema:
            line.append("U=" + json.dumps(schema["x-kubernetes-unions"], separators=(",", ":"), sort_keys=True))
        if "type" not in schema:
            line.append("untyped")
        lines.append(" ".join(line))
        facts = go.fields(name)
        required = schema.get("required", [])
        assert all(r in schema["properties"] for r in required), name
        for field in sorted(schema.get("properties", {})):
            if field not in facts:
                print("no Go field for", name, field)
            lines.append(field_line(field, schema["properties"][field], required,
                                    types.code(schema["properties"][field]), facts.get(field), names))
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openapi", required=True)
    parser.add_argument("--go", required=True)
    parser.add_argument("--go-prefix", default="staging/src/k8s.io")
    parser.add_argument("--output", default="control-plane/machinery/data/schema.txt.gz")
    arguments = parser.parse_args()
    text = generate(load_definitions(arguments.openapi), GoTypes(arguments.go, arguments.go_prefix))
    with open(arguments.output, "wb") as output:
        # No file name and no time in the header: the same input gives the same bytes.
        with gzip.GzipFile(filename="", mode="wb", fileobj=output, mtime=0) as stream:
            stream.write(text.encode())
    print(arguments.output, text.count("\n"), "lines")


main()
