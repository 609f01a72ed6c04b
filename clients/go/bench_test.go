package tenantauth_test

import (
	"testing"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
)

func benchmarked(b *testing.B, options ...tenantauth.Option) *tenantauth.Client {
	service := fake.Start(b)
	answer := fake.Valid("key_1", scope)
	// The lifetime is longer than any benchmark runs.
	answer.Provenance.CacheableFor.Seconds = 100_000
	service.Put(key, answer)
	client, err := tenantauth.New(service.Address(), options...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Close() })
	if validation, err := client.ValidateKey(b.Context(), key, scope); err != nil || !validation.IsValid() {
		b.Fatal(validation.Verdict, err)
	}
	b.ReportAllocs()
	return client
}

func BenchmarkNearCacheHit(b *testing.B) {
	client := benchmarked(b)
	for b.Loop() {
		if validation, err := client.ValidateKey(b.Context(), key, scope); err != nil || validation.Provenance.Source != tenantauth.SourceNear {
			b.Fatal(validation, err)
		}
	}
}

func BenchmarkNearCacheHitParallel(b *testing.B) {
	client := benchmarked(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := client.ValidateKey(b.Context(), key, scope); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkWithoutNearCache(b *testing.B) {
	client := benchmarked(b, tenantauth.WithoutNearCache())
	for b.Loop() {
		if _, err := client.ValidateKey(b.Context(), key, scope); err != nil {
			b.Fatal(err)
		}
	}
}
