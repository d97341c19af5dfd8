package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	extensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/roundtrip"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, autoscalingv1.AddToScheme,
		autoscalingv2.AddToScheme, networkingv1.AddToScheme, discoveryv1.AddToScheme, coordinationv1.AddToScheme,
		eventsv1.AddToScheme, policyv1.AddToScheme, rbacv1.AddToScheme, authenticationv1.AddToScheme,
		authorizationv1.AddToScheme, resourcev1.AddToScheme, extensionsv1.AddToScheme,
	} {
		check(add(s))
	}
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	return s
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Kinds that are filled in every field, and kinds as kubectl sends them.
var filled = []string{
	"v1 Service", "v1 Secret", "v1 Endpoints", "v1 Binding", "v1 Event", "v1 DeleteOptions",
	"apps/v1 Deployment", "apps/v1 ControllerRevision", "batch/v1 JobList", "autoscaling/v1 Scale",
	"autoscaling/v2 HorizontalPodAutoscaler", "networking.k8s.io/v1 NetworkPolicy",
	"discovery.k8s.io/v1 EndpointSlice", "coordination.k8s.io/v1 Lease", "events.k8s.io/v1 Event",
	"policy/v1 Eviction", "rbac.authorization.k8s.io/v1 Role", "authentication.k8s.io/v1 TokenRequest",
	"authorization.k8s.io/v1 SelfSubjectAccessReview", "authorization.k8s.io/v1 SubjectAccessReview",
	"resource.k8s.io/v1 ResourceSlice", "v1 Node", "v1 PersistentVolumeClaim",
}

func ptr[T any](v T) *T { return &v }

func plain() map[string]runtime.Object {
	pod := corev1.PodSpec{Containers: []corev1.Container{{
		Name: "web", Image: "nginx:1.27",
		Ports:     []corev1.ContainerPort{{ContainerPort: 80}},
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("0.5")}},
	}}}
	labels := map[string]string{"app": "web"}
	return map[string]runtime.Object{
		"Pod": &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: pod},
		"Deployment": &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: labels},
			Spec: appsv1.DeploymentSpec{Replicas: ptr(int32(0)), Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod}}},
		"Service": &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"},
			Spec: corev1.ServiceSpec{Type: "NodePort", Selector: labels, Ports: []corev1.ServicePort{
				{Name: "a", Port: 80, Protocol: "TCP", TargetPort: intstr.FromString("http")},
				{Name: "b", Port: 81, Protocol: "UDP", TargetPort: intstr.FromInt32(8081), NodePort: 30008}}}},
		"Namespace":     &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n"}},
		"DeleteOptions": &metav1.DeleteOptions{GracePeriodSeconds: ptr(int64(-1)), PropagationPolicy: ptr(metav1.DeletePropagationBackground)},
		"CustomResourceDefinition": &extensionsv1.CustomResourceDefinition{
			ObjectMeta: metav1.ObjectMeta{Name: "crontabs.example.com"},
			Spec: extensionsv1.CustomResourceDefinitionSpec{Group: "example.com", Versions: []extensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true, Schema: &extensionsv1.CustomResourceValidation{OpenAPIV3Schema: customSchema()},
			}}}},
		"ConfigMap": &corev1.ConfigMap{Data: map[string]string{"a": "", "b": "é"}, BinaryData: map[string][]byte{"c": {0, 255}}},
	}
}

// Each form of what may stand where a schema may.
func customSchema() *extensionsv1.JSONSchemaProps {
	text := extensionsv1.JSONSchemaProps{Type: "string"}
	return &extensionsv1.JSONSchemaProps{
		Type: "object", Default: &extensionsv1.JSON{Raw: []byte(`{"a":[1]}`)},
		Enum: []extensionsv1.JSON{{Raw: []byte(`"x"`)}, {Raw: []byte(`null`)}},
		Properties: map[string]extensionsv1.JSONSchemaProps{
			"list":   {Type: "array", Items: &extensionsv1.JSONSchemaPropsOrArray{Schema: &text}},
			"tuple":  {Items: &extensionsv1.JSONSchemaPropsOrArray{JSONSchemas: []extensionsv1.JSONSchemaProps{text, {}}}},
			"map":    {AdditionalProperties: &extensionsv1.JSONSchemaPropsOrBool{Allows: true, Schema: &text}},
			"any":    {AdditionalProperties: &extensionsv1.JSONSchemaPropsOrBool{Allows: true}},
			"closed": {AdditionalItems: &extensionsv1.JSONSchemaPropsOrBool{}},
			"if": {Dependencies: extensionsv1.JSONSchemaDependencies{
				"a": {Property: []string{"b", "c"}}, "d": {Schema: &text},
			}},
		},
	}
}

func fillFuncs() map[reflect.Type]roundtrip.FillFunc {
	set := func(example any, with func(obj any, s string, i int)) (reflect.Type, roundtrip.FillFunc) {
		return reflect.TypeOf(example), func(s string, i int, obj any) { with(obj, s, i) }
	}
	funcs := map[reflect.Type]roundtrip.FillFunc{}
	add := func(t reflect.Type, f roundtrip.FillFunc) { funcs[t] = f }
	add(set(&runtime.RawExtension{}, func(obj any, s string, i int) {
		obj.(*runtime.RawExtension).Raw = []byte(`{"apiVersion":"example.com/v1","kind":"Any","spec":{"n":1}}`)
	}))
	add(set(&metav1.TypeMeta{}, func(any, string, int) {}))
	add(set(&metav1.FieldsV1{}, func(obj any, s string, i int) { obj.(*metav1.FieldsV1).SetRawString(`{"f:a":{}}`) }))
	add(set(&metav1.Time{}, func(obj any, s string, i int) {
		obj.(*metav1.Time).Time = time.Date(2000+i, 2, 3, 4, 5, 6, 0, time.UTC)
	}))
	add(set(&metav1.MicroTime{}, func(obj any, s string, i int) {
		obj.(*metav1.MicroTime).Time = time.Date(2000+i, 2, 3, 4, 5, 6, 7000*i, time.UTC)
	}))
	add(set(&intstr.IntOrString{}, func(obj any, s string, i int) { *obj.(*intstr.IntOrString) = intstr.FromString(s) }))
	return funcs
}

func protobufVectors() {
	s := newScheme()
	encoder := protobuf.NewSerializer(s, s)
	emit := func(name string, obj runtime.Object) {
		var pb bytes.Buffer
		check(encoder.Encode(obj, &pb))
		line, err := json.Marshal(map[string]any{
			"name": name, "protobuf": base64.StdEncoding.EncodeToString(pb.Bytes()), "json": obj,
		})
		check(err)
		fmt.Println(string(line))
	}
	fill := fillFuncs()
	for _, name := range []string{"Pod", "Deployment", "Service", "Namespace", "DeleteOptions", "ConfigMap", "CustomResourceDefinition"} {
		obj := plain()[name]
		gvk := schema.GroupVersionKind{Version: "v1", Kind: name}
		switch name {
		case "Deployment":
			gvk.Group = "apps"
		case "CustomResourceDefinition":
			gvk.Group = extensionsv1.GroupName
		}
		obj.GetObjectKind().SetGroupVersionKind(gvk)
		emit("plain "+name, obj)
	}
	for _, name := range filled {
		apiVersion, kind, _ := strings.Cut(name, " ")
		gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
		obj, err := roundtrip.CompatibilityTestObject(s, gvk, fill)
		check(err)
		emit(name, obj)
	}
}
