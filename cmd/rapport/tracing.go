package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// flushTimeout bounds what stopping waits for a collector.
const flushTimeout = 5 * time.Second

// tracingWanted reports whether the standard variables name a collector for traces.
func tracingWanted() bool {
	off := strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none"
	return !off && (os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "")
}

// openTracer returns what records traces, or nil when nobody wants them: spans go to the given exporter, else by OTLP over
// HTTP to the collector that the standard OTEL_ variables name, which also choose what is sampled.
func openTracer(ctx context.Context, logger *slog.Logger, exporter sdktrace.SpanExporter, closing *closers) (trace.Tracer, error) {
	processor := sdktrace.WithSyncer(exporter)
	if exporter == nil {
		if !tracingWanted() {
			return nil, nil
		}
		collector, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("traces: %w", err)
		}
		processor = sdktrace.WithBatcher(collector)
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logger.Warn("traces not sent", "err", err) }))
	}
	// Later ones win: the variables may name the service otherwise.
	of, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "rapport"), attribute.String("service.version", versionText())),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(processor, sdktrace.WithResource(of))
	closing.add(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			logger.Warn("traces not sent", "err", err)
		}
		return nil
	})
	return provider.Tracer("github.com/rapport-crm/rapport"), nil
}
