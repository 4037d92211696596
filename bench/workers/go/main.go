// Tasks of kind claude-p, each by a `claude -p` of its own: the document's other design, a Go
// worker that executes the CLI.
//
//	NATS_URL=... AGENTFLOW_CLAUDE=... worker QUEUE SLOTS
//
// It claims and ends tasks by the rules of docs/protocol.md, so the same is stored for each task as
// by AgentFlow's worker, and renews what it runs. It has only the way of a task that goes well: for
// a retry, a take-over, a dead letter or a question it stops with the reason, which the comparison
// counts as an error.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

const lease = 15 * time.Second

type object = map[string]any

type worker struct {
	nats  *nats.Conn
	queue string
	actor string
	cli   string
}

func giveUp(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "go worker: "+format+"\n", values...)
	os.Exit(1)
}

func (w *worker) ask(subject string, body any, fence nats.Header) object {
	data, err := json.Marshal(body)
	if err != nil {
		giveUp("%v", err)
	}
	message := &nats.Msg{Subject: subject, Data: data, Header: fence}
	reply, err := w.nats.RequestMsg(message, 10*time.Second)
	if err != nil {
		giveUp("%s: %v", subject, err)
	}
	var answer object
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		giveUp("%s: %v", subject, err)
	}
	return answer
}

func (w *worker) append(subject string, record object) int {
	id := record["id"].(string)
	answer := w.ask("agentflow."+subject+"."+id, record, nats.Header{
		"Nats-Expected-Last-Subject-Sequence":         {fmt.Sprint(record["follows"])},
		"Nats-Expected-Last-Subject-Sequence-Subject": {"agentflow.*." + id},
	})
	if refused, ok := answer["error"].(object); ok {
		giveUp("the log of %s refuses %s: %v", id, record["state"], refused["description"])
	}
	return int(answer["seq"].(float64))
}

// claude runs the CLI; its exit status says nothing, `is_error` of its result does.
func (w *worker) claude(stop context.Context, prompt string) (object, error) {
	command := exec.CommandContext(stop, w.cli, "-p", prompt, "--output-format", "json")
	out, err := command.Output()
	var result object
	if json.Unmarshal(out, &result) != nil {
		return nil, fmt.Errorf("no result (%v): %.300s", err, out)
	}
	if result["is_error"] != false {
		return nil, fmt.Errorf("%.300v", result["result"])
	}
	return result, nil
}

func (w *worker) run(stop context.Context, message *nats.Msg) {
	began := time.Now()
	// $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<of the consumer>.<stored>.<pending>
	parts := strings.Split(message.Reply, ".")
	delivered, sequence, stored := parts[4], parts[5], parts[7]
	id := message.Header.Get("Agentflow-Id")
	if delivered != "1" || id == "" {
		giveUp("message %s is no first delivery of a task with an id", sequence)
	}
	var body struct{ Prompt string }
	if err := json.Unmarshal(message.Data, &body); err != nil {
		giveUp("task %s: %v", id, err)
	}
	nanoseconds, _ := strconv.ParseInt(stored, 10, 64)
	timings := object{"submitted": time.Unix(0, nanoseconds).UTC(), "started": began.UTC(), "run_s": 0}
	record := object{
		"v": 1, "id": id, "state": "running", "attempt": 1, "failures": 0, "actor": w.actor,
		"follows": 0, "message": sequence + "-" + stored, "time": began.UTC(), "queue": w.queue,
		"priority": "normal", "kind": "claude-p", "labels": object{}, "usage": object{},
		"cost_usd": nil, "timings": timings,
	}
	record["follows"] = w.append("progress", record)

	done := make(chan struct{})
	var renewing sync.WaitGroup
	renewing.Add(1)
	go func() {
		defer renewing.Done()
		tick := time.NewTicker(lease / 3)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				message.Respond([]byte("+WPI"))
			case <-done:
				return
			}
		}
	}()
	result, err := w.claude(stop, body.Prompt)
	close(done)
	renewing.Wait()

	ended := time.Now()
	record["time"] = ended.UTC()
	timings["ended"], timings["run_s"] = ended.UTC(), ended.Sub(began).Seconds()
	if err != nil {
		record["state"], record["reason"] = "failed", "claude_p_failed"
		record["error"] = object{"type": "claude_p_failed", "message": err.Error()}
	} else {
		record["state"], record["text"] = "succeeded", result["result"]
	}
	w.append("results", record)
	message.Respond([]byte("+ACK"))
}

func (w *worker) slot(stop context.Context, number int) {
	inbox := fmt.Sprintf("_INBOX.%s.%d", w.actor, number)
	subscription, err := w.nats.SubscribeSync(inbox)
	if err != nil {
		giveUp("%v", err)
	}
	next := "$JS.API.CONSUMER.MSG.NEXT.AGENTFLOW_TASKS." + w.queue + "-normal"
	for stop.Err() == nil {
		w.nats.PublishRequest(next, inbox, []byte(`{"batch":1,"expires":30000000000}`))
		message, err := subscription.NextMsgWithContext(stop)
		if err != nil {
			return
		}
		// Anything else is a status, such as: the request has expired.
		if strings.HasPrefix(message.Reply, "$JS.ACK.") {
			w.run(stop, message)
		}
	}
}

func main() {
	queue := os.Args[1]
	slots, err := strconv.Atoi(os.Args[2])
	if err != nil {
		giveUp("%v", err)
	}
	connection, err := nats.Connect(os.Getenv("NATS_URL"))
	if err != nil {
		giveUp("%v", err)
	}
	w := &worker{connection, queue, fmt.Sprintf("go-%d", os.Getpid()), os.Getenv("AGENTFLOW_CLAUDE")}
	made := w.ask("$JS.API.CONSUMER.CREATE.AGENTFLOW_TASKS."+queue+"-normal", object{
		"stream_name": "AGENTFLOW_TASKS",
		"action":      "create",
		"config": object{
			"name": queue + "-normal", "durable_name": queue + "-normal",
			"ack_policy": "explicit", "deliver_policy": "all", "replay_policy": "instant",
			"ack_wait": lease, "max_deliver": -1, "max_ack_pending": 20000, "max_waiting": 2048,
			"num_replicas": 0,
			"filter_subjects": []string{
				"agentflow.tasks." + queue, "agentflow.tasks." + queue + ".normal",
			},
		},
	}, nil)
	if refused, ok := made["error"].(object); ok {
		code := refused["err_code"].(float64)
		if code != 10013 && code != 10148 { // it is there
			giveUp("%v", refused["description"])
		}
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	go func() { // whoever started us is gone
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var running sync.WaitGroup
	for number := range slots {
		running.Add(1)
		go func() {
			defer running.Done()
			w.slot(stop, number)
		}()
	}
	running.Wait()
}
