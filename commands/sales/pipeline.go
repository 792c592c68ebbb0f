package sales

import (
	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
)

// Every tenant begins with the default pipeline.
var pipelineRules = []commands.Rule{commands.Found(pipeline.DefaultID, pipeline.DefaultKey, pipeline.Default())}
