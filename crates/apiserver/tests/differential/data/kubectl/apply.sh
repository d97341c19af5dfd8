$ kubectl create namespace apply
$ kubectl config set-context --current --namespace=apply
$ kubectl create serviceaccount default
$ kubectl apply -f -
apiVersion: v1
kind: ConfigMap
metadata: {name: c, labels: {a: b}}
data: {x: "1", y: "2"}
$ kubectl apply -f -
apiVersion: v1
kind: ConfigMap
metadata: {name: c, labels: {a: b}}
data: {x: "1", y: "2"}
$ kubectl diff -f -
apiVersion: v1
kind: ConfigMap
metadata: {name: c, labels: {a: b}}
data: {x: "1", y: "2"}
$ kubectl apply -f -
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {x: "3"}
$ kubectl get configmap c -o yaml
$ kubectl apply view-last-applied configmap c
$ kubectl apply --server-side -f -
apiVersion: v1
kind: ConfigMap
metadata: {name: s}
data: {x: "1"}
$ kubectl apply --server-side --field-manager=other -f -
apiVersion: v1
kind: ConfigMap
metadata: {name: s}
data: {x: "2"}
$ kubectl apply --server-side --field-manager=other --force-conflicts -f -
apiVersion: v1
kind: ConfigMap
metadata: {name: s}
data: {x: "2"}
$ kubectl get configmap s -o yaml --show-managed-fields
$ kubectl apply --dry-run=server -f -
apiVersion: v1
kind: ConfigMap
metadata: {name: dry}
data: {x: "1"}
$ kubectl apply -f -
apiVersion: apps/v1
kind: Deployment
metadata: {name: wrong}
spec: {replicas: 1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: c}]}}}
$ kubectl apply -f -
apiVersion: apps/v1
kind: Deployment
metadata: {name: wrong}
spec: {replica: 1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: x}]}}}
$ kubectl apply --validate=warn -f -
apiVersion: apps/v1
kind: Deployment
metadata: {name: wrong}
spec: {replica: 1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: x}]}}}
$ kubectl create -f -
apiVersion: v1
kind: Service
metadata: {name: bad}
spec: {type: Wrong, ports: [{port: 99999, nodePort: 1}]}
$ kubectl create -f -
apiVersion: v1
kind: Pod
metadata: {name: bad}
spec: {restartPolicy: Sometimes, containers: [{name: A, image: x, ports: [{containerPort: 0}], env: [{name: "1 x"}]}]}
$ kubectl create -f -
apiVersion: nothing/v1
kind: Nothing
metadata: {name: bad}
$ kubectl create -f -
this is: not
a: manifest
$ kubectl replace -f -
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {z: "1"}
$ kubectl replace -f -
apiVersion: v1
kind: ConfigMap
metadata: {name: nobody}
data: {z: "1"}
$ kubectl create configmap lit --from-literal=a=b
$ kubectl create secret generic s --from-literal=password=x
$ kubectl create secret docker-registry r --docker-server=x --docker-username=u --docker-password=p
$ kubectl create service clusterip cip --tcp=80:8080
$ kubectl create service clusterip headless --clusterip=None --tcp=80
$ kubectl create service nodeport np --tcp=80
$ kubectl create service loadbalancer lb --tcp=80
$ kubectl create service externalname ext --external-name=example.com
$ kubectl create serviceaccount robot
$ kubectl create role reader --verb=get,list --resource=pods,services
$ kubectl create rolebinding reader --role=reader --user=jane
$ kubectl create clusterrole apply-reader --verb=get --resource=nodes
$ kubectl create clusterrolebinding apply-reader --clusterrole=apply-reader --group=dev
$ kubectl create quota q --hard=configmaps=50
$ kubectl create priorityclass apply-high --value=1000
$ kubectl create poddisruptionbudget pdb --selector=a=b --min-available=1
$ kubectl create job j --image=web -- sleep 1
$ kubectl create cronjob cj --image=web --schedule='*/5 * * * *'
$ kubectl create ingress ing --rule='a.example/*=web:80'
$ kubectl run p --image=web --labels=a=b --env=X=y --port=80
$ kubectl run p2 --image=web --restart=Never --command -- sleep 1
$ kubectl get cm,secret,svc,sa,role,rolebinding,quota,pdb,job,cronjob,ing,pod
$ kubectl get cm,secret,svc,sa,role,rolebinding,quota,pdb,job,cronjob,ing,pod -o wide
$ kubectl get clusterrole,clusterrolebinding apply-reader
$ kubectl get priorityclass apply-high
$ kubectl describe cm lit
$ kubectl describe secret s
$ kubectl describe svc np
$ kubectl describe sa robot
$ kubectl describe role reader
$ kubectl describe rolebinding reader
$ kubectl describe quota q
$ kubectl describe pdb pdb
$ kubectl describe job j
$ kubectl describe cronjob cj
$ kubectl describe ing ing
$ kubectl describe pod p
$ kubectl get pod p -o yaml
$ kubectl get job j -o yaml
$ kubectl get cronjob cj -o yaml
$ kubectl get svc -o yaml
$ kubectl logs p
$ kubectl delete pod p p2 --now
$ kubectl delete cm --all
$ kubectl delete all --all
$ kubectl delete clusterrole,clusterrolebinding apply-reader
$ kubectl delete priorityclass apply-high
