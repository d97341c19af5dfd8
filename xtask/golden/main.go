// Golden prints test vectors made by Kubernetes' own libraries. The cases are read from standard input,
// one JSON object a line; a file of vectors can be fed back in to renew its answers.
//
//	golden protobuf > crates/apiserver/tests/golden/protobuf.jsonl
//	golden strategic < crates/apiserver/tests/golden/strategic.jsonl
//	golden apply < crates/apiserver/tests/golden/apply.jsonl
package main

import "os"

func main() {
	switch os.Args[1] {
	case "protobuf":
		protobufVectors()
	case "strategic":
		strategicVectors()
	case "apply":
		applyVectors()
	}
}
