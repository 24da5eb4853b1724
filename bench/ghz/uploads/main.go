// Command uploads is ghz with one thing more: in a binary file of messages it writes a fresh UUID into every call.
//
// An upload must be new each time, or storage answers from what it has already. ghz can template only JSON, and to
// read 4 MiB of base64 anew for each call costs it half a second of processor time; this costs a copy.
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/bojand/ghz/printer"
	"github.com/bojand/ghz/runner"
	"github.com/jhump/protoreflect/desc"
)

// placeholder stands in the file where the UUID of the call goes; it has the same length.
const placeholder = "00000000-0000-0000-0000-000000000000"

func main() {
	if len(os.Args) != 3 || os.Args[1] != "--config" {
		fail(fmt.Errorf("usage: uploads --config FILE, with binary-file and output in it"))
	}
	var config runner.Config
	fail(runner.LoadConfig(os.Args[2], &config))
	content, err := os.ReadFile(config.BinDataPath)
	fail(err)
	place := bytes.Index(content, []byte(placeholder))
	if place < 0 {
		fail(fmt.Errorf("%s holds no %s", config.BinDataPath, placeholder))
	}
	fresh := func(_ *desc.MethodDescriptor, call *runner.CallData) []byte {
		data := bytes.Clone(content)
		copy(data[place:], call.UUID)
		return data
	}
	report, err := runner.Run(config.Call, config.Host, runner.WithConfig(&config), runner.WithBinaryDataFunc(fresh))
	fail(err)
	output, err := os.Create(config.Output)
	fail(err)
	fail((&printer.ReportPrinter{Report: report, Out: output}).Print(config.Format))
	fail(output.Close())
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
