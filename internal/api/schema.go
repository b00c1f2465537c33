package api

import (
	"fmt"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ebbtransfer/ebb/bits"
)

// The types of bits that write themselves as text or null, as OpenAPI should show them.
type (
	stateSchema    struct{}
	typeSchema     struct{}
	prioritySchema struct{}
	contextSchema  struct{}
	idSchema       struct{}
	sizeSchema     struct{}
	costSchema     struct{}
	notifySchema   struct{}
	securitySchema struct{}
	aclSchema      struct{}
	peerSchema     struct{}
	targetSchema   struct{}
	proxySchema    struct{}
)

func (stateSchema) Schema(huma.Registry) *huma.Schema    { return enum[bits.State](bits.States) }
func (typeSchema) Schema(huma.Registry) *huma.Schema     { return enum[bits.Type](3) }
func (prioritySchema) Schema(huma.Registry) *huma.Schema { return enum[bits.Priority](bits.Priorities) }
func (contextSchema) Schema(huma.Registry) *huma.Schema  { return enum[bits.Context](9) }
func (idSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "uuid"}
}
func (sizeSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeInteger, Format: "int64", Nullable: true}
}
func (costSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Examples: []any{bits.TransferUnmetered.String(), (bits.CostCappedUsageUnknown | bits.CostRoaming).String()}}
}

func (notifySchema) Schema(huma.Registry) *huma.Schema { return flags(bits.DefaultNotifyFlags) }
func (securitySchema) Schema(huma.Registry) *huma.Schema {
	return flags(bits.SecurityCRLCheck | bits.SecurityRedirectReport)
}
func (aclSchema) Schema(huma.Registry) *huma.Schema    { return flags(bits.ACLOwner | bits.ACLGroup) }
func (peerSchema) Schema(huma.Registry) *huma.Schema   { return flags(bits.PeerDisableBranch) }
func (targetSchema) Schema(huma.Registry) *huma.Schema { return enum[bits.AuthTarget](3) }
func (proxySchema) Schema(huma.Registry) *huma.Schema  { return enum[bits.ProxyUsage](4) }

// flags makes the schema of a set of flags, which is written by their names.
func flags(example fmt.Stringer) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Examples: []any{example.String(), "none"}}
}

// enum makes the schema of a type whose n values from 0 on are written by name.
func enum[T interface {
	~uint8
	String() string
}](n int) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for i := range n {
		s.Enum = append(s.Enum, T(i).String())
	}
	return s
}

func registerSchemas(r huma.Registry) {
	for t, alias := range map[reflect.Type]reflect.Type{
		typeOf[bits.State]():         typeOf[stateSchema](),
		typeOf[bits.Type]():          typeOf[typeSchema](),
		typeOf[bits.Priority]():      typeOf[prioritySchema](),
		typeOf[bits.Context]():       typeOf[contextSchema](),
		typeOf[bits.ID]():            typeOf[idSchema](),
		typeOf[bits.Size]():          typeOf[sizeSchema](),
		typeOf[bits.Cost]():          typeOf[costSchema](),
		typeOf[bits.NotifyFlags]():   typeOf[notifySchema](),
		typeOf[bits.SecurityFlags](): typeOf[securitySchema](),
		typeOf[bits.ACLFlags]():      typeOf[aclSchema](),
		typeOf[bits.PeerFlags]():     typeOf[peerSchema](),
		typeOf[bits.AuthTarget]():    typeOf[targetSchema](),
		typeOf[bits.ProxyUsage]():    typeOf[proxySchema](),

		typeOf[decoded[bits.Settings]]():   typeOf[bits.Settings](),
		typeOf[decoded[bits.Credential]](): typeOf[bits.Credential](),
	} {
		r.RegisterTypeAlias(t, alias)
	}
}

// refine says what the types cannot: which objects may be null, and what a new job must have.
func refine(schemas map[string]*huma.Schema) {
	job := schemas["Job"]
	job.Properties["error"] = &huma.Schema{Description: job.Properties["error"].Description,
		OneOf: []*huma.Schema{{Ref: "#/components/schemas/ErrorInfo"}, {Type: "null"}}}
	times := schemas["Times"]
	times.Properties["transferred"].Nullable = true
	schemas["NewJob"].Required = append(schemas["NewJob"].Required, "name")
}
