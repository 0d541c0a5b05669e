/*
 * For a library that is to run under qemu-user only: qemu does not know SO_COOKIE and refuses it, so that every socket
 * would be left alone.  SO_RCVLOWAT, which it knows, is 1 for each: good enough while a program has one connection.
 */
#include <sys/socket.h>
#undef SO_COOKIE
#define SO_COOKIE SO_RCVLOWAT
