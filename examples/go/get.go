// Waits for a greeting and prints it: go run examples/go/get.go [PORT]
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
)

func main() {
	port := append(os.Args[1:], "30008")[0]
	socket, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatal(err)
	}
	defer socket.Close()
	fmt.Fprint(socket, `{"action":"get","topic":"greetings","wait":60}`)
	var reply struct{ Message any }
	if err := json.NewDecoder(socket).Decode(&reply); err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.Message)
}
