package service

import (
	"context"
	"net"
	"strings"
	"time"

	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	// maxWaiting bounds the events that wait for containerd, while it restarts for
	// example. Beyond it the newest are dropped: containerd asks for states then.
	maxWaiting = 1024
	// forwardTime is for one event to be taken.
	forwardTime = 5 * time.Second
	// retryTime is between two attempts, and attempts how many: a containerd that
	// does not come back within a minute has lost what it had.
	retryTime = time.Second
	attempts  = 60
)

// A Publisher sends events to containerd, in their order.
type Publisher struct {
	address, namespace string
	log                func(string, ...any)
	queue              chan *types.Envelope
	done               chan struct{}
}

// NewPublisher returns one that sends to containerd's ttrpc socket.
func NewPublisher(address, namespace string, log func(string, ...any)) *Publisher {
	p := &Publisher{
		address: strings.TrimPrefix(address, "unix://"), namespace: namespace, log: log,
		queue: make(chan *types.Envelope, maxWaiting), done: make(chan struct{}),
	}
	go p.run()
	return p
}

// Send queues an event.
func (p *Publisher) Send(topic string, m proto.Message) {
	b, err := proto.Marshal(m)
	if err != nil {
		p.log("event %s: %v", topic, err)
		return
	}
	e := &types.Envelope{
		Timestamp: timestamppb.Now(), Namespace: p.namespace, Topic: topic,
		// The bare name, without the host of a URL: what containerd looks up.
		Event: &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: b},
	}
	select {
	case p.queue <- e:
	default:
		p.log("event %s: dropped, %d wait", topic, maxWaiting)
	}
}

// Close sends what waits, for at most the given time. Nothing may be sent after it.
func (p *Publisher) Close(limit time.Duration) {
	close(p.queue)
	select {
	case <-p.done:
	case <-time.After(limit):
	}
}

func (p *Publisher) run() {
	defer close(p.done)
	var c *ttrpc.Client
	for e := range p.queue {
		for try := range attempts {
			if try > 0 {
				<-time.After(retryTime)
			}
			var err error
			if c, err = p.forward(c, e); err == nil {
				break
			}
			p.log("event %s: %v", e.Topic, err)
		}
	}
	if c != nil {
		_ = c.Close()
	}
}

// forward sends one event by a connection that is kept.
func (p *Publisher) forward(c *ttrpc.Client, e *types.Envelope) (*ttrpc.Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), forwardTime)
	defer cancel()
	if c == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", p.address)
		if err != nil {
			return nil, err
		}
		c = ttrpc.NewClient(conn)
	}
	ctx = ttrpc.WithMetadata(ctx, ttrpc.MD{"containerd-namespace-ttrpc": {p.namespace}})
	if _, err := eventsapi.NewTTRPCEventsClient(c).Forward(ctx, &eventsapi.ForwardRequest{Envelope: e}); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}
