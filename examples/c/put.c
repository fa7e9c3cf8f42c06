/* Puts a greeting: cc -o put examples/c/put.c && ./put [PORT] */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static const char put[] = "{\"action\":\"put\",\"topic\":\"greetings\",\"message\":\"Hello from C!\"}";
    int port = argc > 1 ? atoi(argv[1]) : 30008;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(port)};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&server, sizeof server) != 0
        || write(fd, put, sizeof put - 1) != sizeof put - 1) {
        perror("put");
        return 1;
    }
    return close(fd);
}
