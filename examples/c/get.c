/* Waits for a greeting and prints the reply, which is JSON: cc -o get examples/c/get.c && ./get [PORT] */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* An object ends with the brace that closes it, unless that stands in a string. */
static void print_object(FILE *in)
{
    int c, depth = 0, string = 0, escaped = 0;
    while ((c = getc(in)) != EOF) {
        putchar(c);
        if (escaped) {
            escaped = 0;
        } else if (string) {
            escaped = c == '\\';
            string = c != '"';
        } else if (c == '"') {
            string = 1;
        } else if (c == '{') {
            depth++;
        } else if (c == '}' && --depth == 0) {
            break;
        }
    }
    putchar('\n');
}

int main(int argc, char **argv)
{
    static const char get[] = "{\"action\":\"get\",\"topic\":\"greetings\",\"wait\":60}";
    int port = argc > 1 ? atoi(argv[1]) : 30008;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(port)};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&server, sizeof server) != 0
        || write(fd, get, sizeof get - 1) != sizeof get - 1) {
        perror("get");
        return 1;
    }
    print_object(fdopen(fd, "r"));
    return 0;
}
