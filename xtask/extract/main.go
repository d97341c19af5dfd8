// Extract prints the facts of the Kubernetes API types that the schema table holds: field names,
// types, protobuf numbers, merge rules. It reads the source of the published modules; describe copies the prose.
//
//	extract API_DIR APIMACHINERY_DIR APIEXTENSIONS_DIR > types.txt
package main

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

const extensions = "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

// Directory under k8s.io/api, or a whole import path, and the group that it serves.
var served = [][2]string{
	{extensions, "apiextensions.k8s.io"},
	{"core/v1", ""}, {"apps/v1", "apps"}, {"batch/v1", "batch"},
	{"autoscaling/v1", "autoscaling"}, {"autoscaling/v2", "autoscaling"},
	{"networking/v1", "networking.k8s.io"}, {"discovery/v1", "discovery.k8s.io"},
	{"coordination/v1", "coordination.k8s.io"}, {"events/v1", "events.k8s.io"},
	{"rbac/v1", "rbac.authorization.k8s.io"}, {"storage/v1", "storage.k8s.io"},
	{"policy/v1", "policy"}, {"scheduling/v1", "scheduling.k8s.io"}, {"node/v1", "node.k8s.io"},
	{"admissionregistration/v1", "admissionregistration.k8s.io"},
	{"authentication/v1", "authentication.k8s.io"}, {"authorization/v1", "authorization.k8s.io"},
	{"certificates/v1", "certificates.k8s.io"}, {"flowcontrol/v1", "flowcontrol.apiserver.k8s.io"},
	{"resource/v1", "resource.k8s.io"},
}

const meta = "k8s.io/apimachinery/pkg/apis/meta/v1"

// Types with an encoding of their own.
var special = map[string]string{
	meta + ".Time": "Time", meta + ".MicroTime": "MicroTime",
	meta + ".FieldsV1": "FieldsV1",
	"k8s.io/apimachinery/pkg/api/resource.Quantity":   "Quantity",
	"k8s.io/apimachinery/pkg/util/intstr.IntOrString": "IntOrString",
	"k8s.io/apimachinery/pkg/runtime.RawExtension":    "RawExtension",
	extensions + ".JSON": "RawExtension", extensions + ".JSONSchemaPropsOrArray": "SchemaOrSchemas",
	extensions + ".JSONSchemaPropsOrBool": "SchemaOrBool", extensions + ".JSONSchemaPropsOrStringArray": "SchemaOrStrings",
}

type pkg struct {
	path   string
	types  map[string]*ast.TypeSpec
	docs   map[string][]string
	files  map[string]*ast.File // type name -> its file
	consts map[string]string
}

var (
	roots = map[string]string{}
	pkgs  = map[string]*pkg{}
	todo  []string
	seen  = map[string]bool{}
)

func main() {
	roots["k8s.io/api"], roots["k8s.io/apimachinery"] = os.Args[1], os.Args[2]
	roots["k8s.io/apiextensions-apiserver"] = os.Args[3]
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, s := range served {
		path := s[0]
		if path != extensions {
			path = "k8s.io/api/" + path
		}
		fmt.Fprintf(out, "G %s %s %s\n", dash(s[1]), filepath.Base(s[0]), short(path))
		p := load(path)
		for _, name := range slices.Sorted(maps.Keys(p.types)) {
			if isKind(p.types[name]) {
				reach(path + "." + name)
			}
		}
	}
	fmt.Fprintf(out, "G meta.k8s.io v1 %s\n", short(meta))
	for _, name := range []string{"DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "Status"} {
		reach(meta + "." + name)
	}
	lines := map[string][]string{}
	for len(todo) > 0 {
		id := todo[0]
		todo = todo[1:]
		lines[id] = describe(id)
	}
	for _, id := range slices.Sorted(maps.Keys(lines)) {
		fmt.Fprintln(out, strings.Join(lines[id], "\n"))
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// short turns an import path into the prefix of type names: core.v1, meta.v1.
func short(path string) string {
	parts := strings.Split(path, "/")
	return strings.Join(parts[len(parts)-2:], ".")
}

func load(path string) *pkg {
	if p, ok := pkgs[path]; ok {
		return p
	}
	dir := ""
	for mod, root := range roots {
		if rest, ok := strings.CutPrefix(path, mod+"/"); ok {
			dir = filepath.Join(root, rest)
		}
	}
	p := &pkg{path, map[string]*ast.TypeSpec{}, map[string][]string{}, map[string]*ast.File{}, map[string]string{}}
	pkgs[path] = p
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	check(err)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || strings.Contains(name, "generated") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		check(err)
		for _, decl := range file.Decls {
			if gen, ok := decl.(*ast.GenDecl); ok {
				p.declare(file, gen)
			}
		}
	}
	return p
}

func (p *pkg) declare(file *ast.File, gen *ast.GenDecl) {
	for _, spec := range gen.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			p.types[spec.Name.Name] = spec
			p.files[spec.Name.Name] = file
			p.docs[spec.Name.Name] = append(markers(gen.Doc), markers(spec.Doc)...)
		case *ast.ValueSpec:
			for i, name := range spec.Names {
				if i < len(spec.Values) {
					if lit, ok := spec.Values[i].(*ast.BasicLit); ok {
						p.consts[name.Name] = lit.Value
					}
				}
			}
		}
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// isKind reports whether the struct embeds TypeMeta.
func isKind(spec *ast.TypeSpec) bool {
	st, ok := spec.Type.(*ast.StructType)
	if !ok || !ast.IsExported(spec.Name.Name) {
		return false
	}
	for _, f := range st.Fields.List {
		name := f.Type
		if sel, ok := name.(*ast.SelectorExpr); ok {
			name = sel.Sel
		}
		if id, ok := name.(*ast.Ident); ok && len(f.Names) == 0 && id.Name == "TypeMeta" {
			return true
		}
	}
	return false
}

func reach(id string) {
	if !seen[id] {
		seen[id] = true
		todo = append(todo, id)
	}
}

func split(id string) (*pkg, string) {
	i := strings.LastIndex(id, ".")
	return load(id[:i]), id[i+1:]
}

func markers(doc *ast.CommentGroup) []string {
	var found []string
	if doc == nil {
		return found
	}
	for _, c := range doc.List {
		text := strings.TrimSpace(strings.TrimPrefix(c.Text, "//"))
		if strings.HasPrefix(text, "+") {
			found = append(found, text[1:])
		}
	}
	return found
}

func values(marks []string, key string) []string {
	var found []string
	for _, m := range marks {
		if v, ok := strings.CutPrefix(m, key+"="); ok {
			found = append(found, v)
		}
	}
	return found
}

func last(marks []string, key string) string {
	if v := values(marks, key); len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// typeOf names a field's type: s, b, i32, i64, f64, bytes, []T, {}T, *T, a special or a struct.
func typeOf(p *pkg, file *ast.File, e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return "*" + typeOf(p, file, e.X)
	case *ast.ArrayType:
		if id, ok := e.Elt.(*ast.Ident); ok && id.Name == "byte" {
			return "bytes"
		}
		return "[]" + typeOf(p, file, e.Elt)
	case *ast.MapType:
		return "{}" + typeOf(p, file, e.Value)
	case *ast.Ident:
		if t, ok := basic[e.Name]; ok {
			return t
		}
		return named(p.path + "." + e.Name)
	case *ast.SelectorExpr:
		return named(imported(file, e.X.(*ast.Ident).Name) + "." + e.Sel.Name)
	}
	check(fmt.Errorf("cannot name the type %T", e))
	return ""
}

var basic = map[string]string{
	"string": "s", "bool": "b", "int32": "i32", "int64": "i64", "int": "i64", "float64": "f64",
}

func imported(file *ast.File, alias string) string {
	for _, imp := range file.Imports {
		path, _ := strconv.Unquote(imp.Path.Value)
		if imp.Name != nil && imp.Name.Name == alias || imp.Name == nil && filepath.Base(path) == alias {
			return path
		}
	}
	check(fmt.Errorf("import %s not found", alias))
	return ""
}

func named(id string) string {
	if s, ok := special[id]; ok {
		return s
	}
	p, name := split(id)
	spec, ok := p.types[name]
	if !ok {
		check(fmt.Errorf("type %s not found", id))
	}
	if _, ok := spec.Type.(*ast.StructType); ok {
		reach(id)
		return short(p.path) + "." + name
	}
	under := typeOf(p, p.files[name], spec.Type)
	switch {
	case strings.HasPrefix(under, "[]") && hasPrefixMarker(p.docs[name], "protobuf.nullable"):
		return "Values" // a list that protobuf wraps in a message
	case under == "s":
		return "s=" + filepath.Base(p.path) + "." + name
	}
	return under
}

func hasPrefixMarker(marks []string, prefix string) bool {
	for _, m := range marks {
		if strings.HasPrefix(m, prefix) {
			return true
		}
	}
	return false
}

func describe(id string) []string {
	p, name := split(id)
	head := "T " + short(p.path) + "." + name
	if isKind(p.types[name]) {
		head += " kind"
	}
	if t := last(p.docs[name], "structType"); t != "" {
		head += " t=" + t
	}
	lines := []string{head}
	for _, f := range p.types[name].Type.(*ast.StructType).Fields.List {
		if line := field(p, p.files[name], f); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

func field(p *pkg, file *ast.File, f *ast.Field) string {
	if f.Tag == nil {
		return ""
	}
	raw, _ := strconv.Unquote(f.Tag.Value)
	tag := reflect.StructTag(raw)
	parts := strings.Split(tag.Get("json"), ",")
	name, opts := parts[0], parts[1:]
	inline := name == "" && len(f.Names) == 0
	t := typeOf(p, file, f.Type)
	if name == "-" || t == "meta.v1.TypeMeta" {
		return ""
	}
	if inline {
		name = "-"
	}
	num := "0"
	if pb := strings.Split(tag.Get("protobuf"), ","); len(pb) > 1 {
		num = pb[1]
	}
	return strings.Join(append([]string{name, num, t}, flags(p, tag, opts, markers(f.Doc))...), " ")
}

func flags(p *pkg, tag reflect.StructTag, opts, marks []string) []string {
	var out []string
	omit := false
	optional := hasPrefixMarker(marks, "optional")
	for _, o := range opts {
		switch o {
		case "omitempty":
			omit = true
			out = append(out, "o")
		case "omitzero":
			out = append(out, "z")
		}
	}
	if !omit && !optional || slices.Contains(marks, "required") {
		out = append(out, "r")
	}
	if s := tag.Get("patchStrategy"); s != "" {
		out = append(out, "p="+s)
	}
	if s := tag.Get("patchMergeKey"); s != "" {
		out = append(out, "k="+s)
	}
	if s := last(marks, "listType"); s != "" {
		if keys := values(marks, "listMapKey"); s == "map" && len(keys) > 0 {
			s += ":" + strings.Join(keys, ",")
		}
		out = append(out, "l="+s)
	}
	if s := last(marks, "mapType"); s != "" {
		out = append(out, "m="+s)
	}
	if s := last(marks, "structType"); s != "" {
		out = append(out, "t="+s)
	}
	if s := last(marks, "default"); s != "" {
		if ref, ok := strings.CutPrefix(s, "ref("); ok {
			s = p.consts[strings.TrimSuffix(ref, ")")]
		}
		out = append(out, "d="+s)
	}
	return out
}
