$ kubectl create namespace custom
$ kubectl config set-context --current --namespace=custom
$ kubectl apply -f $CRONTAB
$ kubectl wait --for=condition=established crd/crontabs.stable.example.com --timeout=20s
$ sleep 1; kubectl get ct
$ kubectl get crd
$ kubectl apply -f -
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: my}
spec: {cronSpec: '* * * * */5', parts: [{name: a, value: x}], raw: {a: {b: c}}}
$ kubectl get ct
$ kubectl get ct my -o yaml
$ kubectl describe ct my
$ kubectl explain ct.spec
$ kubectl explain ct
$ kubectl scale ct my --replicas=3
$ kubectl scale ct my --replicas=9
$ kubectl get ct --field-selector spec.image=nginx
$ kubectl get ct --field-selector spec.mode=a
$ kubectl patch ct my --type=merge -p '{"spec":{"mode":"z","replicas":20}}'
$ kubectl patch ct my --type=merge -p '{"spec":{"cronSpec":5}}'
$ kubectl patch ct my -p '{"spec":{"replicas":2}}'
$ kubectl patch ct my --type=merge -p '{"status":{"replicas":2}}'
$ kubectl patch ct my --type=merge --subresource=status -p '{"status":{"replicas":2,"labelSelector":"a=b"}}'
$ kubectl get ct my --subresource=scale -o yaml
$ kubectl create -f -
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: bad}
spec: {cronSpec: x, replicas: 20, mode: z, spare: 1, port: true, parts: [{name: a}, {name: a}]}
$ kubectl create --validate=ignore -f -
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: bad}
spec: {cronSpec: x, replicas: 20, mode: z, spare: 1, port: true, parts: [{name: a}, {name: a}]}
$ kubectl create --validate=warn -f -
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: warned}
spec: {cronSpec: '1 1 1 1 1', spare: 1}
$ kubectl apply --server-side -f -
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: applied}
spec: {cronSpec: '1 1 1 1 1', parts: [{name: a, value: x}]}
$ kubectl apply --server-side --field-manager=other -f -
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: applied}
spec: {cronSpec: '1 1 1 1 1', parts: [{name: b, value: z}]}
$ kubectl apply --server-side --field-manager=other -f -
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: applied}
spec: {cronSpec: '1 1 1 1 1', parts: [{name: a, value: q}]}
$ kubectl get ct applied -o yaml --show-managed-fields
$ kubectl apply -f -
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: wrong.stable.example.com}
spec:
  group: stable
  scope: Somewhere
  names: {plural: wrongs, kind: Wrong}
  versions:
  - {name: v1, served: true, storage: false, schema: {openAPIV3Schema: {type: object, properties: {a: {}}}}}
$ kubectl api-resources --api-group=stable.example.com
$ kubectl get --raw /apis/stable.example.com/v1
$ kubectl get ct -A
$ kubectl delete ct --all
$ kubectl delete crd crontabs.stable.example.com
