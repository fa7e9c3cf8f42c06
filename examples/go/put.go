// Puts a greeting: go run examples/go/put.go [PORT]
package main

import (
	"encoding/json"
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
	put := map[string]string{"action": "put", "topic": "greetings", "message": "Hello from Go!"}
	if err := json.NewEncoder(socket).Encode(put); err != nil {
		log.Fatal(err)
	}
}
