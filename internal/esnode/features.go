package esnode

import (
	"context"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
)

// serverVersion is the EventStoreDB release whose protocol the node speaks. Clients
// parse the first three parts as numbers.
const serverVersion = "24.10.0"

// featuresService tells clients what they can call. Names are lower-case, as clients
// compare them literally; what is not listed here they do not try.
type featuresService struct {
	serverfeatures.UnimplementedServerFeaturesServer
}

// GetSupportedMethods implements the ServerFeatures service.
func (featuresService) GetSupportedMethods(context.Context, *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	return &serverfeatures.SupportedMethods{
		EventStoreServerVersion: serverVersion,
		Methods: []*serverfeatures.SupportedMethod{
			{ServiceName: "event_store.client.streams.streams", MethodName: "read", Features: []string{"position", "events"}},
			{ServiceName: "event_store.client.streams.streams", MethodName: "append"},
			{ServiceName: "event_store.client.streams.streams", MethodName: "batchappend", Features: []string{"deadline_duration"}},
			{ServiceName: "event_store.client.streams.streams", MethodName: "delete"},
			{ServiceName: "event_store.client.streams.streams", MethodName: "tombstone"},
			{ServiceName: "event_store.client.gossip.gossip", MethodName: "read"},
			{ServiceName: "event_store.client.server_features.serverfeatures", MethodName: "getsupportedmethods"},
		},
	}, nil
}

// gossipService describes the members of a cluster, for clients that discover.
type gossipService struct {
	gossip.UnimplementedGossipServer
	*cluster
}

// Read implements the Gossip service.
func (g gossipService) Read(context.Context, *shared.Empty) (*gossip.ClusterInfo, error) {
	info := &gossip.ClusterInfo{}
	for i, address := range g.addresses {
		state := gossip.MemberInfo_Follower
		if g.leads(i) {
			state = gossip.MemberInfo_Leader
		}
		info.Members = append(info.Members, &gossip.MemberInfo{
			InstanceId:   &shared.UUID{Value: &shared.UUID_String_{String_: g.instance(i).String()}},
			TimeStamp:    ticksOf(g.store.now()),
			State:        state,
			IsAlive:      true,
			HttpEndPoint: &gossip.EndPoint{Address: address.IP.String(), Port: uint32(address.Port)},
		})
	}
	return info, nil
}
