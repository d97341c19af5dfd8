// Describe prints what Kubernetes says of its types and fields, and which values an enumerated field takes. It reads the OpenAPI
// definitions that Kubernetes generates from the doc comments of its published modules.
//
//	describe KUBERNETES_DIR types.txt > descriptions.txt
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
	"slices"
	"strconv"
	"strings"
)

const head = `# What Kubernetes says of its types and fields, from the doc comments of its modules (Apache License 2.0, Copyright The
# Kubernetes Authors). "cargo xtask schema" writes this file. "T TYPE TEXT", then a line "FIELD[=VALUE,...|[]=VALUE,...] TEXT" for
# each field: = for the values of an enumerated field, []= for those of its items.
`

// The types of types.txt that have an encoding of their own and so no line there.
var special = map[string]string{
	"schema_apimachinery_pkg_api_resource_Quantity":      "Quantity",
	"schema_apimachinery_pkg_util_intstr_IntOrString":    "IntOrString",
	"schema_k8sio_apimachinery_pkg_runtime_RawExtension": "RawExtension",
	"schema_pkg_apis_meta_v1_Time":                       "Time",
	"schema_pkg_apis_meta_v1_MicroTime":                  "MicroTime",
	"schema_pkg_apis_meta_v1_FieldsV1":                   "FieldsV1",
}

func main() {
	wanted := names(os.Args[2])
	path := filepath.Join(os.Args[1], "pkg/generated/openapi/zz_generated.openapi.go")
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	check(err)
	found := map[string][]string{}
	for _, decl := range file.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok {
			if name, ok := wanted[fn.Name.Name]; ok {
				found[name] = describe(name, fn)
			}
		}
	}
	for _, name := range wanted {
		if found[name] == nil {
			check(fmt.Errorf("%s is not in %s", name, path))
		}
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	fmt.Fprint(out, head)
	for _, name := range slices.Sorted(maps.Keys(found)) {
		fmt.Fprintln(out, strings.Join(found[name], "\n"))
	}
}

// names answers the type that each generated function is of, for the types in the table.
func names(table string) map[string]string {
	text, err := os.ReadFile(table)
	check(err)
	wanted := map[string]string{}
	for function, name := range special {
		wanted[function] = name
	}
	for _, line := range strings.Split(string(text), "\n") {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "T" {
			continue
		}
		prefix := "schema_k8sio_api_"
		if strings.HasPrefix(words[1], "meta.") || strings.HasPrefix(words[1], "apiextensions.") {
			prefix = "schema_pkg_apis_"
		}
		wanted[prefix+strings.ReplaceAll(words[1], ".", "_")] = words[1]
	}
	return wanted
}

func describe(name string, fn *ast.FuncDecl) []string {
	props := outermost(fn)
	lines := []string{"T " + name + text(props, "Description")}
	fields := map[string]string{}
	if properties, ok := key(props, "Properties").(*ast.CompositeLit); ok {
		for _, entry := range properties.Elts {
			pair := entry.(*ast.KeyValueExpr)
			field := schemaProps(pair.Value)
			fields[unquote(pair.Key)] = values(field) + text(field, "Description")
		}
	}
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if fields[field] != "" {
			lines = append(lines, field+fields[field])
		}
	}
	return lines
}

// outermost finds a function's first SchemaProps, which are those of OpenAPI v3 where there are others.
func outermost(fn *ast.FuncDecl) *ast.CompositeLit {
	var found *ast.CompositeLit
	ast.Inspect(fn, func(node ast.Node) bool {
		if lit, ok := node.(*ast.CompositeLit); ok && found == nil && is(lit, "SchemaProps") {
			found = lit
		}
		return found == nil
	})
	return found
}

func is(lit *ast.CompositeLit, name string) bool {
	selector, ok := lit.Type.(*ast.SelectorExpr)
	return ok && selector.Sel.Name == name
}

// schemaProps opens {SchemaProps: spec.SchemaProps{...}}.
func schemaProps(schema ast.Expr) *ast.CompositeLit {
	lit, _ := schema.(*ast.CompositeLit)
	props, _ := key(lit, "SchemaProps").(*ast.CompositeLit)
	return props
}

func key(lit *ast.CompositeLit, name string) ast.Expr {
	if lit == nil {
		return nil
	}
	for _, entry := range lit.Elts {
		if pair, ok := entry.(*ast.KeyValueExpr); ok {
			if id, ok := pair.Key.(*ast.Ident); ok && id.Name == name {
				return pair.Value
			}
		}
	}
	return nil
}

// values says which values a field or its items take.
func values(field *ast.CompositeLit) string {
	if listed := enum(field); listed != "" {
		return "=" + listed
	}
	items, ok := key(field, "Items").(*ast.UnaryExpr)
	if !ok {
		return ""
	}
	schema, ok := key(items.X.(*ast.CompositeLit), "Schema").(*ast.UnaryExpr)
	if !ok {
		return ""
	}
	if listed := enum(schemaProps(schema.X)); listed != "" {
		return "[]=" + listed
	}
	return ""
}

func enum(props *ast.CompositeLit) string {
	list, ok := key(props, "Enum").(*ast.CompositeLit)
	if !ok {
		return ""
	}
	var values []string
	for _, value := range list.Elts {
		values = append(values, unquote(value))
	}
	return strings.Join(values, ",")
}

// text is the escaped value of a key after a blank, or nothing.
func text(props *ast.CompositeLit, name string) string {
	value := key(props, name)
	if value == nil {
		return ""
	}
	return " " + strings.NewReplacer("\\", "\\\\", "\n", "\\n").Replace(unquote(value))
}

func unquote(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		check(fmt.Errorf("expected a literal, found a %T", e))
	}
	value, err := strconv.Unquote(lit.Value)
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
