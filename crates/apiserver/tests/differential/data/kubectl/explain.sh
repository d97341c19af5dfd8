$ kubectl explain service
$ kubectl explain service.spec
$ kubectl explain service.spec.externalTrafficPolicy
$ kubectl explain service.spec.ports
$ kubectl explain service.spec.ports.targetPort
$ kubectl explain service.spec.sessionAffinityConfig.clientIP.timeoutSeconds
$ kubectl explain service.status.loadBalancer
$ kubectl explain pod.spec
$ kubectl explain pod.spec.containers.livenessProbe
$ kubectl explain pod.spec.containers.resources.limits
$ kubectl explain pod.spec.restartPolicy
$ kubectl explain pod.spec.volumes
$ kubectl explain pod.spec --recursive
$ kubectl explain pod.metadata
$ kubectl explain pod.metadata.managedFields.fieldsV1
$ kubectl explain pod.apiVersion
$ kubectl explain deployment.spec
$ kubectl explain deployment.spec.strategy.rollingUpdate.maxSurge
$ kubectl explain statefulset.spec.persistentVolumeClaimRetentionPolicy
$ kubectl explain daemonset.status
$ kubectl explain job.spec
$ kubectl explain cronjob.spec.concurrencyPolicy
$ kubectl explain endpointslice
$ kubectl explain endpointslice.endpoints.conditions
$ kubectl explain ingress.spec.rules.http.paths.pathType
$ kubectl explain networkpolicy.spec.policyTypes
$ kubectl explain configmap.immutable
$ kubectl explain secret.type
$ kubectl explain node.status.conditions
$ kubectl explain persistentvolumeclaim.spec.accessModes
$ kubectl explain persistentvolume.spec
$ kubectl explain resourcequota.spec.scopes
$ kubectl explain limitrange.spec.limits
$ kubectl explain poddisruptionbudget.spec
$ kubectl explain horizontalpodautoscaler.spec --api-version=autoscaling/v2
$ kubectl explain horizontalpodautoscaler.spec --api-version=autoscaling/v1
$ kubectl explain role.rules
$ kubectl explain clusterrolebinding
$ kubectl explain lease.spec.renewTime
$ kubectl explain events --api-version=events.k8s.io/v1
$ kubectl explain customresourcedefinition.spec
$ kubectl explain validatingwebhookconfiguration.webhooks.matchPolicy
$ kubectl explain storageclass.volumeBindingMode
$ kubectl explain flowschema.spec
$ kubectl explain deviceclass
