// Of OpenTelemetry's collector for Kubernetes the parts that send the logs of a node.
package main

import (
	"log"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/filestorage"
	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/filelogreceiver"
	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/journaldreceiver"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/otlphttpexporter"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

func main() {
	files, logs, journal := filestorage.NewFactory(), filelogreceiver.NewFactory(), journaldreceiver.NewFactory()
	sender := otlphttpexporter.NewFactory()
	factories := func() (otelcol.Factories, error) {
		return otelcol.Factories{
			Extensions: map[component.Type]extension.Factory{files.Type(): files},
			Receivers:  map[component.Type]receiver.Factory{logs.Type(): logs, journal.Type(): journal},
			Exporters:  map[component.Type]exporter.Factory{sender.Type(): sender},
			Telemetry:  otelconftelemetry.NewFactory(),
		}, nil
	}
	providers := []confmap.ProviderFactory{fileprovider.NewFactory(), envprovider.NewFactory()}
	collector := otelcol.NewCommand(otelcol.CollectorSettings{
		BuildInfo: component.NewDefaultBuildInfo(),
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{
			ResolverSettings: confmap.ResolverSettings{ProviderFactories: providers},
		},
	})
	if err := collector.Execute(); err != nil {
		log.Fatal(err)
	}
}
