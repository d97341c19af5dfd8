package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields/managedfieldstest"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	applyconfigurations "k8s.io/client-go/applyconfigurations"
)

type object = map[string]any

func gvkOf(names []string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: names[0], Version: names[1], Kind: names[2]}
}

// lines reads cases from standard input, one JSON object a line.
func lines[T any](each func(*T)) {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	for in.Scan() {
		c := new(T)
		check(json.Unmarshal(in.Bytes(), c))
		each(c)
		out, err := json.Marshal(c)
		check(err)
		fmt.Println(string(out))
	}
	check(in.Err())
}

type strategicCase struct {
	Name     string   `json:"name"`
	Gvk      []string `json:"gvk"`
	Original object   `json:"original"`
	Patch    object   `json:"patch"`
	Result   object   `json:"result,omitempty"`
	Error    string   `json:"error,omitempty"`
}

func strategicVectors() {
	s := newScheme()
	lines(func(c *strategicCase) {
		typed, err := s.New(gvkOf(c.Gvk))
		check(err)
		lookup, err := strategicpatch.NewPatchMetaFromStruct(typed)
		check(err)
		c.Result, c.Error = nil, ""
		original, patch := runtime.DeepCopyJSON(ints(c.Original)), runtime.DeepCopyJSON(ints(c.Patch))
		result, err := strategicpatch.StrategicMergeMapPatchUsingLookupPatchMeta(original, patch, lookup)
		if err != nil {
			c.Error = err.Error()
		} else {
			c.Result = result
		}
	})
}

// ints turns whole numbers into int64, as Kubernetes' decoder has them.
func ints(v object) object {
	return convert(v).(object)
}

func convert(v any) any {
	switch v := v.(type) {
	case object:
		for k, e := range v {
			v[k] = convert(e)
		}
	case []any:
		for i, e := range v {
			v[i] = convert(e)
		}
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	}
	return v
}

type step struct {
	Op      string `json:"op"`
	Manager string `json:"manager"`
	Force   bool   `json:"force,omitempty"`
	Object  object `json:"object"`
	Result  object `json:"result,omitempty"`
	Error   string `json:"error,omitempty"`
	Causes  []any  `json:"causes,omitempty"`
}

type applyCase struct {
	Name  string   `json:"name"`
	Gvk   []string `json:"gvk"`
	Steps []*step  `json:"steps"`
}

func applyVectors() {
	converter := applyconfigurations.NewTypeConverter(newScheme())
	lines(func(c *applyCase) {
		manager := managedfieldstest.NewTestFieldManager(converter, gvkOf(c.Gvk))
		for _, s := range c.Steps {
			s.Result, s.Error, s.Causes = nil, "", nil
			obj := &unstructured.Unstructured{Object: runtime.DeepCopyJSON(ints(s.Object))}
			obj.SetGroupVersionKind(gvkOf(c.Gvk))
			var err error
			if s.Op == "apply" {
				err = manager.Apply(obj, s.Manager, s.Force)
			} else {
				err = manager.Update(obj, s.Manager)
			}
			if err != nil {
				s.Error = err.Error()
				if status, ok := err.(errors.APIStatus); ok && status.Status().Details != nil {
					for _, cause := range status.Status().Details.Causes {
						s.Causes = append(s.Causes, cause)
					}
				}
				continue
			}
			raw, err := json.Marshal(manager.Live())
			check(err)
			check(json.Unmarshal(raw, &s.Result))
			if meta, ok := s.Result["metadata"].(object); ok {
				for _, entry := range asList(meta["managedFields"]) {
					delete(entry.(object), "time")
				}
			}
		}
	})
}

func asList(v any) []any {
	l, _ := v.([]any)
	return l
}
