// Package tenantauthv1 is the generated code of the contract in proto/tenantauth/v1.
//
// Most programs need only the package tenantauth; use this one for the RPCs that tenantauth does not wrap.
package tenantauthv1

import (
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// formatState lets the generated code refer to fmt.State without importing fmt.
type formatState = fmt.State

func show(f formatState, message proto.Message) { _, _ = io.WriteString(f, redacted(message)) }

// redacted returns a message as text, without plaintext keys. It shows only whether a key was set.
func redacted(message proto.Message) string {
	if !message.ProtoReflect().IsValid() {
		return "<nil>"
	}
	return prototext.MarshalOptions{}.Format(withoutSecrets(message))
}

// redactedJSON returns a message as JSON, without plaintext keys.
func redactedJSON(message proto.Message) ([]byte, error) {
	if !message.ProtoReflect().IsValid() {
		return []byte("null"), nil
	}
	return protojson.Marshal(withoutSecrets(message))
}

func withoutSecrets(message proto.Message) proto.Message {
	shown := proto.Clone(message)
	// Range returns an error only if the callback does.
	_ = protorange.Range(shown.ProtoReflect(), func(path protopath.Values) error {
		if held, ok := path.Index(-1).Value.Interface().(protoreflect.Message); ok {
			hideSecrets(held)
		}
		return nil
	})
	return shown
}

func hideSecrets(message protoreflect.Message) {
	for _, name := range []protoreflect.Name{"key", "plaintext"} {
		field := message.Descriptor().Fields().ByName(name)
		if field != nil && field.Kind() == protoreflect.StringKind && message.Has(field) {
			message.Set(field, protoreflect.ValueOfString("[redacted]"))
		}
	}
}
