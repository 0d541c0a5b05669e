# bash completion for holdfast(1).

_holdfast_settings='-p --probe -w --wrap --off --rules= --programs= -i --interval= -t --timeout= --on-dead=
	--connect-timeout= --reply-timeout= --on-unanswered= --stall-timeout= --on-stall= --half-close-timeout=
	--on-half-close= --fallback= --hello-wait= --reconnect-window= --resume-buffer= --linger= --key-file= --info=
	--report= --format= --json --level= -v --verbose'
_holdfast_events='open wrapped plain late dead stalled flowing half-closed half-close-timeout vanished broken resumed
	gave-up closed corrupt config'
_holdfast_columns='program pid fd role mode state verdict idle rtt unread there beats sent received age peer peer-program'

# The options of a subcommand; "=" marks those that take a value.
_holdfast_options() {
	case $1 in
	run) echo "$_holdfast_settings --library= -n --dry-run -h --help -V --version" ;;
	check) echo "-p --probe -w --wrap -q --quiet --json -h --help" ;;
	events)
		echo "-e --event= --reason= --level= --prog= --pid= --peer= --local= --conn= --until= --count= -t --timeout=
			--from-start --json -q --quiet -x --exec= --jobs= -h --help"
		;;
	top) echo "-f --filter= -s --sort= -r --reverse -d --delay= --once --json -w --watch= -h --help" ;;
	explain) echo "--json -h --help" ;;
	metrics) echo "-o --output= --every= -l --listen= --format= -h --help" ;;
	enable) echo "$_holdfast_settings --library= -n --dry-run --now --user --root= -h --help" ;;
	disable) echo "-n --dry-run --now --user --root= -h --help" ;;
	esac
}

# Watched connections, as "holdfast explain" takes them.
_holdfast_connections() { holdfast top --json 2>/dev/null | sed -nE 's/.*"conn":"([0-9a-f]+)".*/\1/p'; }

# What the option $1 of the subcommand $2 takes, for the beginning $3.
_holdfast_value() {
	local words=
	case $1 in
	--on-dead) words='abort report reconnect' ;;
	--on-unanswered | --on-stall | --on-half-close) words='abort report' ;;
	--fallback) words='plain fail' ;;
	--format)
		words='text json'
		[ "$2" != metrics ] || words='openmetrics prometheus'
		;;
	--sort | -s) words=$_holdfast_columns ;;
	--delay | --watch | --every | -d | -w) words='1s 5s 15s' ;;
	--listen | -l) words='9747 127.0.0.1:9747' ;;
	--level) words='error warn info debug' ;;
	--report) words='stderr syslog file: unix: fd: none' ;;
	--reason) words='path hung unanswered reset connect' ;;
	--event | --until | -e) words=$_holdfast_events ;;
	--interval | -i) words='1s 5s 30s' ;;
	--timeout | --connect-timeout | --reply-timeout | -t) words='5s 15s 30s 1m' ;;
	--stall-timeout | --half-close-timeout) words='off 60s' ;;
	--key-file | --library | --output | -o)
		mapfile -t COMPREPLY < <(compgen -f -- "$3")
		return
		;;
	--root)
		mapfile -t COMPREPLY < <(compgen -d -- "$3")
		return
		;;
	--exec | -x)
		mapfile -t COMPREPLY < <(compgen -c -- "$3")
		return
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$3")
}

# The words after the options: programs, sinks, units.
_holdfast_word() {
	case $1 in
	run | check) mapfile -t COMPREPLY < <(compgen -c -- "$2") ;;
	explain) mapfile -t COMPREPLY < <(compgen -W "$(_holdfast_connections)" -- "$2") ;;
	events) mapfile -t COMPREPLY < <(compgen -W 'unix: file: -' -- "$2") ;;
	enable | disable)
		mapfile -t COMPREPLY < <(compgen -W "$(systemctl list-unit-files --type=service --no-legend 2>/dev/null |
			cut -d' ' -f1 | sed 's/\.service$//')" -- "$2")
		;;
	esac
}

# Where the command of "holdfast run" begins, in $start; 0 while there is none.
_holdfast_find_command() {
	local i
	start=0
	for ((i = 2; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--)
			start=$((i + 1))
			return
			;;
		-i | -t) ((i++)) ;;
		=) ((i++)) ;; # bash splits "--interval=5s" into three words
		--*=*) ;;
		--*) [[ " $(_holdfast_options run | tr '\n\t' '  ') " != *" ${COMP_WORDS[i]}= "* || ${COMP_WORDS[i + 1]} == = ]] || ((i++)) ;;
		-*) ;;
		*)
			start=$i
			return
			;;
		esac
	done
}

_holdfast() {
	local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} start options
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W 'run check top explain metrics events enable disable help version --help --version' -- "$word")
		return
	fi
	if [[ $command == help ]]; then
		mapfile -t COMPREPLY < <(compgen -W 'run check top explain metrics events enable disable' -- "$word")
		return
	fi
	if [[ $command == run ]]; then
		_holdfast_find_command
		if ((start > 0 && COMP_CWORD > start)) && declare -F _command_offset >/dev/null; then
			_command_offset "$start"
			return
		fi
	fi
	options=" $(_holdfast_options "$command" | tr '\n\t' '  ') "
	if [[ $word == = ]]; then # "--level=" and nothing yet
		_holdfast_value "$previous" "$command" ""
	elif [[ $previous == = ]]; then
		_holdfast_value "${COMP_WORDS[COMP_CWORD - 2]}" "$command" "$word"
	elif [[ $options == *" $previous= "* || $options =~ " $previous "--[a-z-]+=" " ]]; then
		_holdfast_value "$previous" "$command" "$word"
	elif [[ $word == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
		[[ ${COMPREPLY[0]-} != *= || ${#COMPREPLY[@]} -gt 1 ]] || compopt -o nospace 2>/dev/null
	else
		_holdfast_word "$command" "$word"
	fi
}

complete -o bashdefault -o default -F _holdfast holdfast
