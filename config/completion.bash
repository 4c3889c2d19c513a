# shellcheck shell=bash
# Bash completion for evrelay. The commands, their flags and what these take are read from the --help
# of the program itself.

_evrelay() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=serve help takes=
  # --flag=value stands in three words.
  if [ "$word" = = ]; then
    word=
  elif [ "$before" = = ]; then
    before=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  if ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]} != -* ]]; then
    command=${COMP_WORDS[1]}
  fi
  COMPREPLY=()
  help=$("$1" "$command" --help 2>/dev/null) || return

  if [[ $help =~ $'\n  '([^ ]*,)?"$before"(,[^ ]*)?' '([A-Z]+) ]]; then
    takes=${BASH_REMATCH[3]}
  fi
  case $takes in
    FILE | PATH)
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
      ;;
    LEVEL) mapfile -t COMPREPLY < <(compgen -W 'debug info warn error' -- "$word") ;;
    '')
      local from='s/^  \(-[a-z],\)\{0,1\}\(--[a-z-]*\).*/\2/p'
      if ((COMP_CWORD == 1)) && [[ $word != -* ]]; then
        from='/^Commands/,/^[A-Z].*evrelay/s/^  \([a-z]*\) .*/\1/p'
      fi
      mapfile -t COMPREPLY < <(compgen -W "$(sed -n "$from" <<<"$help")" -- "$word")
      ;;
  esac
}
complete -F _evrelay evrelay
