package tenantauth

import (
	"fmt"
	"io"
	"log/slog"
)

// Key is a key in plaintext, exactly as the customer presented it, without a "Bearer " in front: a secret.
//
// It shows itself in no format, log or JSON; convert it to a string to see it.
type Key string

const redacted = "[redacted]"

// String does not show the key.
func (Key) String() string { return redacted }

// Format does not show the key, whatever the verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText does not show the key.
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue does not show the key.
func (Key) LogValue() slog.Value { return slog.StringValue(redacted) }
