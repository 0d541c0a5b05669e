/* Linked with libearly: sockets are used before main begins and after it ends. */
#include "../zoo.h"

int early_talk(void);

int main(void)
{
	settle();
	early_talk();
	int a[2];
	pair(a);
	T(write(a[0], "main", 4));
	return 0;
}
