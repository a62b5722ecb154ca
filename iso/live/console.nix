# Who has which terminal: the page has the screen, a shell the next one and every serial line.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  package = config.hypervisor.package;
in
{
  systemd.services = {
    # Two masters of one terminal would write over each other.
    "getty@tty1".enable = false;
    "autovt@tty1".enable = false;

    hyper-nixos-page = {
      description = "Page of the live system";
      documentation = [ "man:hv-live(1)" ];
      wantedBy = [ "getty.target" ];
      before = [ "getty.target" ];
      after = [
        "hyper-nixos-live.service"
        "sshd-keygen.service"
        "systemd-user-sessions.service"
        "systemd-vconsole-setup.service"
      ];
      conflicts = [ "getty@tty1.service" ];
      restartIfChanged = false;
      environment = {
        LANG = "C.UTF-8";
        TERM = "linux";
      };
      serviceConfig = {
        ExecStart = "${package}/bin/hv live screen";
        Restart = "always";
        StandardInput = "tty";
        # The page shows a password: it goes to the terminal alone, and only what went wrong to the journal.
        StandardOutput = "tty";
        StandardError = "journal";
        TTYPath = "/dev/tty1";
        TTYReset = true;
        TTYVHangup = true;
        TTYVTDisallocate = true;
      };
    };
  };

  # The shell stands ready instead of being started when somebody looks.
  systemd.targets.getty.wants = [ "getty@tty2.service" ];

  services.getty.helpLine = lib.mkForce ''
    Hyper-NixOS, live system. `sudo -i` is root. The page of this machine: sudo hv live show
  '';
  # A serial line has no second terminal: who logs in there sees the page first.
  environment.loginShellInit = ''
    if [ "$USER" = nixos ] && [ -z "''${SSH_CONNECTION-}" ] && [ -t 1 ]; then
      sudo --non-interactive ${lib.getExe package} live show
    fi
  '';

  # For those who read with fingers: found when it is plugged in.
  services.brltty.enable = true;

  # For those who listen: a boot entry of its own.
  specialisation.speech.configuration = {
    system.nixos.tags = [ "speech" ];
    boot.kernelModules = [ "speakup_soft" ];
    systemd.services.espeakup = {
      description = "Speech for the console";
      wantedBy = [ "multi-user.target" ];
      after = [ "sound.target" ];
      serviceConfig = {
        Type = "forking";
        PIDFile = "/run/espeakup.pid";
        # Sound cards start muted.
        ExecStartPre = "-${pkgs.alsa-utils}/bin/alsactl init";
        ExecStart = lib.getExe pkgs.espeakup;
        Restart = "on-failure";
      };
    };
  };
}
