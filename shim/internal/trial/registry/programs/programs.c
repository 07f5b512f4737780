// The programs of the trial's images which busybox cannot be: one static binary that
// does what its name says. The suites look for these words.
//
//	pause    sleeps, reaps orphans and ends by SIGTERM
//	setuid   prints its effective user
//	web      answers every HTTP request; its argument is the port
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void end(int sig)
{
	(void)sig;
	_exit(0);
}

static _Noreturn void sleep_for_ever(void)
{
	signal(SIGTERM, end);
	signal(SIGINT, end);
	signal(SIGCHLD, SIG_IGN); // The kernel reaps.
	for (;;)
		pause();
}

static void answer(int client)
{
	static const char words[] = "HTTP/1.1 200 OK\r\nContent-Length: 18\r\nConnection: close\r\n\r\nWelcome to nginx!\n";
	char request[4096];

	if (read(client, request, sizeof request) < 0 || write(client, words, sizeof words - 1) < 0)
		return;
	shutdown(client, SHUT_WR);
	while (read(client, request, sizeof request) > 0)
		;
}

static int listen_at(int port)
{
	int server = socket(AF_INET6, SOCK_STREAM, 0), yes = 1, no = 0;
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	setsockopt(server, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
	if (server < 0 || bind(server, (struct sockaddr *)&any, sizeof any) || listen(server, 64)) {
		perror("web");
		exit(1);
	}
	return server;
}

// A suite looks for a process of this name.
static const char title[] = "nginx: master process nginx";

static int serve(char **argv)
{
	const char *port = argv[1] ? argv[1] : "80";

	if (strcmp(argv[0], title) != 0) {
		char *again[] = {(char *)title, (char *)port, NULL};
		execv("/proc/self/exe", again);
		return 1;
	}
	FILE *number = fopen("/var/run/nginx.pid", "w"); // A suite reads it.
	if (number) {
		fprintf(number, "%d\n", (int)getpid());
		fclose(number);
	}
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	for (int server = listen_at(atoi(port));;) {
		int client = accept(server, NULL, NULL);
		if (client < 0)
			continue;
		if (fork() == 0) {
			answer(client);
			_exit(0);
		}
		close(client);
	}
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');

	name = name ? name + 1 : argv[0];
	if (argc > 0 && strcmp(name, "pause") == 0)
		sleep_for_ever();
	if (strcmp(name, "setuid") == 0)
		return printf("Effective uid: %d\n", (int)geteuid()) < 0;
	return serve(argv);
}
