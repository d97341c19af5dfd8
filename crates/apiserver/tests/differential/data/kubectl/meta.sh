$ kubectl auth can-i create pods
$ kubectl auth can-i '*' '*'
$ kubectl auth whoami
$ kubectl explain pod
$ kubectl explain pod.spec.containers.ports
$ kubectl explain deployment.spec.strategy --recursive
$ kubectl explain service.spec.nothing
$ kubectl explain configmap
$ kubectl api-resources --api-group=apps
$ kubectl api-resources --api-group='' --namespaced=true
$ kubectl api-resources --api-group=batch -o wide
$ kubectl api-resources --api-group=networking.k8s.io
$ kubectl api-resources --api-group=rbac.authorization.k8s.io
$ kubectl api-resources --api-group=apiextensions.k8s.io
$ kubectl get namespaces
$ kubectl get ns default -o yaml
$ kubectl describe ns default
$ kubectl get svc kubernetes -n default
$ kubectl get endpoints kubernetes -n default
$ kubectl get events -n kube-public
$ kubectl get nodes
$ kubectl delete namespace default
$ kubectl create namespace Bad_Name
$ kubectl get pods -n nowhere
$ kubectl create configmap x -n nowhere
$ kubectl get --raw /version | grep -c gitVersion
$ kubectl get --raw /healthz
$ kubectl get --raw /nothing
$ kubectl get --raw /api/v1/nothing
$ kubectl get --raw /apis/nothing/v1
