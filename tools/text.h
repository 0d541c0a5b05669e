/* Untrusted text on standard output: names from files and events, for people and as JSON. */
#ifndef HOLDFAST_TEXT_H
#define HOLDFAST_TEXT_H

/* TEXT with control characters and the like escaped (hf_fmt_plain). */
void hf_print_plain(const char *text);

/* TEXT as a JSON string, quotes included; or null. */
void hf_print_json(const char *text);

/* TEXT as a shell reads it back. */
void hf_print_quoted(const char *text);

#endif
