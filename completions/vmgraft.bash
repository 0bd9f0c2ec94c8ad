# SPDX-License-Identifier: Apache-2.0
# Completion of vmgraft for bash. Names come from the store; libvirt is not asked.

_vmgraft_words() {
  # $1: kind of name. The options that say which store are passed on.
  vmgraft "${store[@]}" __complete "$1" "$cur" 2>/dev/null
}

# bash breaks words at '@', ':' and '=', which belong to snapshots, paths and URIs here: what stands before the last of
# them is not replaced, so it must not be offered again.
_vmgraft_trim() {
  local breaks=${COMP_WORDBREAKS//[^:=@]/}
  [[ -n $breaks && $cur == *[$breaks]* ]] || return 0
  local head=${cur%"${cur##*[$breaks]}"}
  COMPREPLY=("${COMPREPLY[@]#"$head"}")
}

_vmgraft() {
  COMPREPLY=()
  local line=${COMP_LINE:0:COMP_POINT} words cur prev cword
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  cword=$((${#words[@]} - 1))
  ((cword > 0)) || return 0
  cur=${words[cword]} prev=${words[cword - 1]}
  _vmgraft_candidates
  _vmgraft_trim
}

_vmgraft_candidates() {
  local globals="--connect --store --templates --json --quiet --verbose --dry-run --yes --help"
  local wait="ready agent ssh none"

  # The verb, how many places are filled behind it, and which store is meant.
  local i verb="" places=0 store=()
  for ((i = 1; i < cword; i++)); do
    case ${words[i]} in
      --) return ;;
      --connect | --store) store+=("${words[i]}" "${words[++i]}") ;;
      --templates | --set | --count | --wait | --for | --timeout | --stop-timeout | --ttl | --on-expire | --description | --user | \
        --format | --name | --sha256 | --gpus) ((i++)) ;;
      -*) ;;
      *)
        if [[ -z $verb ]]; then
          verb=${words[i]}
        elif [[ $verb == snapshot || $verb == gpu || $verb == image || $verb == template ]]; then
          verb="$verb ${words[i]}"
        else
          ((places++))
        fi
        ;;
    esac
  done

  local options="" names=""
  case $verb in
    "")
      names="create start stop restart delete list show wait extend snapshot revert clone exec copy ssh console image"
      names+=" gpu template gc check doctor version"
      globals+=" --version"
      ;;
    create)
      options="--set --gpus --explain --count --no-start --wait --timeout --ttl --on-expire --keep --print-xml"
      ((places == 0)) && names=@templates
      ;;
    start) options="--wait --timeout --explain" names=@vms ;;
    stop) options="--timeout --force" names=@vms ;;
    restart) options="--stop-timeout --force --wait --timeout" names=@vms ;;
    delete) names=@vms ;;
    list) options="--all" ;;
    show) ((places == 0)) && names=@refs ;;
    wait) options="--for --timeout"; ((places == 0)) && names=@vms; wait="ready agent ssh" ;;
    extend) ((places == 0)) && names=@vms; ((places == 1)) && names="1h 8h 1d never" ;;
    snapshot) names="create list delete" ;;
    "snapshot create") options="--description --memory --timeout"; ((places == 0)) && names=@vms ;;
    "snapshot list") ((places == 0)) && names=@vms ;;
    "snapshot delete") ((places == 0)) && names=@snapshots ;;
    revert) options="--start --no-start --wait --timeout"; ((places == 0)) && names=@snapshots ;;
    clone) options="--count --full --keep-tpm --start --wait --timeout --ttl --on-expire --print-xml"; ((places == 0)) && names=@refs ;;
    exec) options="--user --timeout --no-stdin"; ((places == 0)) && names=@vms ;;
    copy) names=@copy ;;
    ssh | console) ((places == 0)) && names=@vms ;;
    gpu) names="list check request attach detach lend return" ;;
    "gpu list") options="--tree" ;;
    "gpu check") options="--for"; ((places == 0)) && names=@gpus ;;
    "gpu request") ((places == 0)) && names=@vms; ((places > 0)) && names=@gpus ;;
    "gpu attach") options="--explain"; ((places == 0)) && names=@vms; ((places == 1)) && names=@gpus ;;
    "gpu detach") options="--timeout"; ((places == 0)) && names=@vms; ((places == 1)) && names=@gpus ;;
    "gpu lend") options="--force-console"; ((places == 0)) && names=@gpus ;;
    "gpu return") options="--force"; ((places == 0)) && names=@gpus ;;
    image) names="list build import pull delete" ;;
    "image list") options="--available" ;;
    "image build") options="--name --force"; ((places == 0)) && names="micro debian-12" ;;
    "image import") options="--format --agent --cloud-init --user --force"; ((places == 0)) && names=@files ;;
    "image pull") options="--name --sha256 --force"; ((places == 0)) && names=@catalogue ;;
    "image delete") names=@images ;;
    template) names="list show check" ;;
    "template list") ;;
    "template show") options="--set"; ((places == 0)) && names=@templates ;;
    "template check") names=@templates ;;
    gc) ;;
    check) options="--quick" names=@vms ;;
    doctor | version) ;;
  esac

  case $prev in
    --gpus) COMPREPLY=($(compgen -W "$(_vmgraft_words gpus)" -- "$cur")); return ;;
    --wait | --for)
      if [[ $verb == "gpu check" ]]; then
        COMPREPLY=($(compgen -W "$(_vmgraft_words templates)" -- "$cur"))
        return
      fi
      COMPREPLY=($(compgen -W "$wait" -- "$cur"))
      return
      ;;
    --ttl) COMPREPLY=($(compgen -W "1h 8h 1d never" -- "$cur")); return ;;
    --on-expire) COMPREPLY=($(compgen -W "delete stop" -- "$cur")); return ;;
    --format) COMPREPLY=($(compgen -W "qcow2 raw" -- "$cur")); return ;;
    --connect) COMPREPLY=($(compgen -W "qemu:///system qemu:///session" -- "$cur")); return ;;
    --store | --templates) COMPREPLY=($(compgen -d -- "$cur")); return ;;
    --set | --count | --timeout | --stop-timeout | --description | --user | --name | --sha256) return ;;
  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$options $globals" -- "$cur"))
    return
  fi
  case $names in
    @files) COMPREPLY=($(compgen -f -- "$cur")) ;;
    @templates) COMPREPLY=($(compgen -W "$(_vmgraft_words templates)" -- "$cur") $(compgen -f -X '!*.json' -- "$cur")) ;;
    @copy)
      COMPREPLY=($(compgen -f -- "$cur") $(compgen -S : -W "$(_vmgraft_words vms)" -- "$cur"))
      compopt -o nospace 2>/dev/null
      ;;
    @*) COMPREPLY=($(compgen -W "$(_vmgraft_words "${names#@}")" -- "$cur")) ;;
    *) COMPREPLY=($(compgen -W "$names" -- "$cur")) ;;
  esac
}

complete -F _vmgraft vmgraft
