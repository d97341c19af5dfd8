$ kubectl create namespace basics
$ kubectl config set-context --current --namespace=basics
$ kubectl create serviceaccount default
$ kubectl create deployment web --image=web:1 --replicas=3 --port=80
$ kubectl create deployment web --image=web:1
$ kubectl get deployments
$ kubectl get deployments -o wide
$ kubectl get deployment web -o name
$ kubectl get deployment web -o yaml
$ kubectl get deployment web -o json
$ kubectl get deployment web -o jsonpath='{.spec.replicas} {.spec.template.spec.containers[*].image}'
$ kubectl get deployment web -o custom-columns=N:.metadata.name,R:.spec.replicas
$ kubectl get deployment web -o go-template='{{.metadata.name}}'
$ kubectl get deployments --show-labels
$ kubectl get deployments -L app
$ kubectl get deployments -A --sort-by=.metadata.name
$ kubectl get deployments --no-headers
$ kubectl get deploy,svc,cm
$ kubectl get all
$ kubectl describe deployment web
$ kubectl expose deployment web --port=80 --target-port=8080 --name=web
$ kubectl expose deployment web --port=80 --type=NodePort --name=web-node
$ kubectl get services -o wide
$ kubectl describe service web
$ kubectl get svc web -o yaml
$ kubectl label deployment web tier=front
$ kubectl label deployment web tier=back
$ kubectl label deployment web tier=back --overwrite
$ kubectl label deployment web tier-
$ kubectl label deployment web 'bad label=x'
$ kubectl annotate deployment web note=hello
$ kubectl annotate deployment web note-
$ kubectl scale deployment web --replicas=5
$ kubectl scale deployment web --replicas=2 --current-replicas=9
$ kubectl scale deployment nothing --replicas=2
$ kubectl autoscale deployment web --min=2 --max=5 --cpu-percent=80
$ kubectl get hpa
$ kubectl describe hpa web
$ kubectl set image deployment/web web=web:2
$ kubectl set env deployment/web A=b
$ kubectl set resources deployment web --limits=cpu=200m,memory=64Mi --requests=cpu=100m
$ kubectl set selector service web app=other
$ kubectl set serviceaccount deployment web robot
$ kubectl get deploy web -o jsonpath='{.spec.template.spec.containers[0]}'
$ kubectl rollout history deployment/web
$ kubectl rollout pause deployment/web
$ kubectl rollout pause deployment/web
$ kubectl rollout resume deployment/web
$ kubectl rollout restart deployment/web >/dev/null; echo $?
$ kubectl rollout status deployment/web --timeout=1s --watch=false
$ kubectl patch deployment web -p '{"spec":{"replicas":1}}'
$ kubectl patch deployment web --type=json -p '[{"op":"replace","path":"/spec/replicas","value":2}]'
$ kubectl patch deployment web --type=json -p '[{"op":"remove","path":"/spec/nothing"}]'
$ kubectl patch deployment web --type=merge -p '{"spec":{"replicas":"x"}}'
$ kubectl patch deployment web -p '{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"web:3"}]}}}}'
$ EDITOR='sed -i s/replicas:.2/replicas:\ 4/' kubectl edit deployment web
$ EDITOR=true kubectl edit deployment web
$ kubectl get deployment web -o jsonpath='{.spec.replicas}'
$ kubectl wait --for=jsonpath='{.spec.replicas}'=4 deployment/web --timeout=5s
$ kubectl wait --for=condition=available deployment/web --timeout=1s
$ kubectl delete service web web-node
$ kubectl delete deployment web
$ kubectl delete deployment web
$ kubectl delete deployment web --ignore-not-found
$ kubectl get deployments
$ kubectl get nothing
$ kubectl get pods nothing
