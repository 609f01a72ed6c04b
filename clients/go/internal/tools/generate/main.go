// Command generate generates the package tenantauthv1 from the contract in proto/, without a system protoc.
//
// Run it in the folder internal/tools: "go run ./generate", or "go run ./generate -check" to fail if the committed code
// differs.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

const (
	contract = "../../../../proto"
	target   = "../../tenantauthv1"
	module   = "github.com/tenant-auth/tenant-auth/clients/go"
	ours     = "tenantauth/v1/"
)

func main() {
	check := flag.Bool("check", false, "change nothing; fail if the generated code is outdated")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	request, err := compile()
	if err != nil {
		return err
	}
	files := map[string]string{}
	for _, plugin := range []string{"protoc-gen-go", "protoc-gen-go-grpc"} {
		if err := generate(plugin, request, files); err != nil {
			return fmt.Errorf("%s: %w", plugin, err)
		}
	}
	if check {
		return compare(files)
	}
	return write(files)
}

// compile parses the contract with its comments, which become the documentation of the generated code.
func compile() (*pluginpb.CodeGeneratorRequest, error) {
	paths, err := filepath.Glob(filepath.Join(contract, ours, "*.proto"))
	if err != nil || len(paths) == 0 {
		return nil, fmt.Errorf("no .proto files in %s (%w)", contract, err)
	}
	var names []string
	for _, path := range paths {
		names = append(names, ours+filepath.Base(path))
	}
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{contract}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := compiler.Compile(context.Background(), names...)
	if err != nil {
		return nil, err
	}
	// The contract does not set go_package, so the Go package is set here.
	options := []string{"module=" + module}
	for _, name := range names {
		options = append(options, fmt.Sprintf("M%s=%s/tenantauthv1", name, module))
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: names, Parameter: proto.String(strings.Join(options, ","))}
	seen := map[string]bool{}
	for _, file := range compiled {
		addWithImports(file, seen, &request.ProtoFile)
	}
	return request, nil
}

// addWithImports adds a file after all files that it imports, the order that plugins expect.
func addWithImports(file protoreflect.FileDescriptor, seen map[string]bool, all *[]*descriptorpb.FileDescriptorProto) {
	if seen[file.Path()] {
		return
	}
	seen[file.Path()] = true
	for i := range file.Imports().Len() {
		addWithImports(file.Imports().Get(i).FileDescriptor, seen, all)
	}
	*all = append(*all, protoutil.ProtoFromFileDescriptor(file))
}

func generate(plugin string, request *pluginpb.CodeGeneratorRequest, files map[string]string) error {
	input, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	// "go tool" runs the version that go.mod pins.
	command := exec.Command("go", "tool", plugin)
	command.Stdin, command.Stderr = bytes.NewReader(input), os.Stderr
	output, err := command.Output()
	if err != nil {
		return err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(output, &response); err != nil {
		return err
	}
	if response.Error != nil {
		return fmt.Errorf("%s", response.GetError())
	}
	for _, file := range response.File {
		files[filepath.Base(file.GetName())] = redact(file.GetContent())
	}
	return nil
}

// redact changes the generated code so that messages print and marshal themselves without keys, which protects against
// leaks in logs. The wire format is not affected.
func redact(code string) string {
	const plain = "return protoimpl.X.MessageStringOf(x)"
	lines := strings.Split(code, "\n")
	for i := 0; i < len(lines); i++ {
		if strings.TrimSpace(lines[i]) != plain {
			continue
		}
		lines[i] = "\treturn redacted(x)"
		receiver, _, _ := strings.Cut(lines[i-1], "String() string")
		lines = slices.Insert(lines, i+2,
			"", "// Format prints the message without keys, for any verb.", receiver+"Format(f formatState, _ rune) {", "\tshow(f, x)", "}",
			"", "// MarshalJSON returns the message without keys.", receiver+"MarshalJSON() ([]byte, error) {", "\treturn redactedJSON(x)", "}")
	}
	return strings.Join(lines, "\n")
}

func compare(files map[string]string) error {
	committed, err := filepath.Glob(filepath.Join(target, "*.pb.go"))
	if err != nil {
		return err
	}
	stale := len(committed) != len(files)
	for name, content := range files {
		present, err := os.ReadFile(filepath.Join(target, name))
		stale = stale || err != nil || string(present) != content
	}
	if stale {
		return fmt.Errorf("%s is outdated: run generate without -check", target)
	}
	return nil
}

func write(files map[string]string) error {
	committed, err := filepath.Glob(filepath.Join(target, "*.pb.go"))
	if err != nil {
		return err
	}
	for _, path := range committed {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(target, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
