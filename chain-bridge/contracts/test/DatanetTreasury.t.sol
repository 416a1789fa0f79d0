// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssetRegistry} from "../src/AssetRegistry.sol";
import {DatanetTreasury} from "../src/DatanetTreasury.sol";
import {Settlement} from "../src/Settlement.sol";
import {Sig} from "../src/Sig.sol";
import {Trees} from "../src/Trees.sol";
import {Suite} from "./Suite.sol";

/// @notice Says what was contributed; and pays what treasuries earn, as Settlement does.
contract Contributed {
    mapping(uint64 => AssetRegistry.Accepted[]) private accepted;

    function accept(uint64 asset, address contributor, uint64 textBytes) external returns (uint256) {
        accepted[asset].push(
            AssetRegistry.Accepted(contributor, 0, 0, 0, textBytes, 1, uint64(block.timestamp), 0, 0, 0)
        );
        return accepted[asset].length - 1;
    }

    function contributionCount(uint64 asset) external view returns (uint256) {
        return accepted[asset].length;
    }

    function contributionAt(uint64 asset, uint256 number) external view returns (AssetRegistry.Accepted memory) {
        return accepted[asset][number];
    }

    address public insurance = address(0x1459);

    function insure(address account) external {
        insurance = account;
    }

    function pay(DatanetTreasury treasury, uint64 asset) external payable {
        treasury.receiveFor{value: msg.value}(asset);
    }
}

/// @notice A contributor that refuses money, or takes it and asks for more.
contract Contributor {
    DatanetTreasury private immutable desk;
    bool public refuses;
    uint256 public again;

    constructor(DatanetTreasury desk_) {
        desk = desk_;
    }

    function become(bool refuses_) external {
        refuses = refuses_;
    }

    receive() external payable {
        require(!refuses, "refused");
        for (uint256 i = 0; i < 2; ++i) try desk.claim{gas: gasleft() / 4}(1, i) {
            ++again;
        } catch {}
        try desk.withdrawOwed{gas: gasleft() / 4}(payable(address(this))) {
            ++again;
        } catch {}
    }
}

/// @notice What treasuries earn goes to who contributed, by bytes, to the wei.
contract DatanetTreasuryTest is Suite {
    uint64 private constant NET = 1;
    address private constant ALICE = address(0xA11CE);
    address private constant BOB = address(0xB0B);
    address private constant CAROL = address(0xCA401);

    Contributed private book;
    DatanetTreasury private desk;

    function setUp() public override {
        super.setUp();
        book = new Contributed();
        desk = new DatanetTreasury(AssetRegistry(address(book)), address(book), TREASURY_DELAY);
        vm.deal(address(this), 1e30);
    }

    function test_what_comes_in_is_divided_by_bytes() public {
        entered(ALICE, 300);
        entered(BOB, 100);
        vm.warp(block.timestamp + TREASURY_DELAY);
        desk.receiveFor{value: 4 ether}(NET);
        eq("three quarters", 3 ether, desk.earned(NET, 0));
        eq("a quarter", 1 ether, desk.earned(NET, 1));
        desk.claim(NET, 0);
        eq("paid", 3 ether, ALICE.balance);
        eq("once", 0, desk.earned(NET, 0));
        vm.expectRevert(abi.encodeWithSelector(DatanetTreasury.NothingToClaim.selector, NET, 0));
        desk.claim(NET, 0);
        desk.receiveFor{value: 4 ether}(NET);
        desk.claim(NET, 0);
        desk.claim(NET, 1);
        eq("in two parts", 6 ether, ALICE.balance);
        eq("in one", 2 ether, BOB.balance);
        eq("all", 0, address(desk).balance);
        eq("received", 8 ether, desk.totalReceived());
        eq("claimed", 8 ether, desk.totalClaimed());
    }

    function test_a_remainder_is_carried_into_the_next_division() public {
        entered(ALICE, 2);
        entered(BOB, 1);
        vm.warp(block.timestamp + TREASURY_DELAY);
        desk.receiveFor{value: 5}(NET);
        eq("two each three", 2, desk.earned(NET, 0));
        eq("carried", 2, desk.streamOf(NET).undivided);
        desk.receiveFor{value: 1}(NET);
        eq("and divided", 4, desk.earned(NET, 0));
        eq("none", 0, desk.streamOf(NET).undivided);
    }

    function test_money_waits_until_all_that_wish_could_enter() public {
        uint256 alice = book.accept(NET, ALICE, 1);
        desk.receiveFor{value: 10 ether}(NET);
        uint256 bob = book.accept(NET, BOB, 99);
        vm.warp(block.timestamp + TREASURY_DELAY);
        desk.enter(NET, alice);
        eq("opens", block.timestamp + TREASURY_DELAY, desk.streamOf(NET).opensAt);
        desk.receiveFor{value: 1 ether}(NET);
        eq("not to the first alone", 0, desk.earned(NET, alice));
        vm.expectRevert(abi.encodeWithSelector(DatanetTreasury.NothingToClaim.selector, NET, alice));
        desk.claim(NET, alice);
        vm.warp(block.timestamp + TREASURY_DELAY - 1);
        desk.enter(NET, bob);
        eq("still not", 0, desk.earned(NET, bob));
        vm.warp(block.timestamp + 1);
        eq("now", 0.11 ether, desk.earned(NET, alice));
        desk.claim(NET, bob);
        eq("by bytes", 10.89 ether, BOB.balance);
        eq("and not once more for who was late to look", 0.11 ether, desk.earned(NET, alice));
    }

    function test_who_enters_later_shares_in_what_comes_later() public {
        entered(ALICE, 1);
        desk.receiveFor{value: 1 ether}(NET);
        vm.warp(block.timestamp + TREASURY_DELAY);
        // Due to the first, though nobody has asked for it yet.
        entered(BOB, 1);
        eq("the first's", 1 ether, desk.earned(NET, 0));
        eq("none of it is the second's", 0, desk.earned(NET, 1));
        desk.receiveFor{value: 1 ether}(NET);
        eq("half", 1.5 ether, desk.earned(NET, 0));
        eq("half", 0.5 ether, desk.earned(NET, 1));
        eq("and nothing of another Datanet's", 0, desk.earned(2, 0));
    }

    function test_a_contribution_enters_once_after_the_delay() public {
        uint256 alice = book.accept(NET, ALICE, 7);
        uint256 from = block.timestamp + TREASURY_DELAY;
        vm.warp(from - 1);
        vm.expectRevert(abi.encodeWithSelector(DatanetTreasury.TooSoon.selector, from, from - 1));
        desk.enter(NET, alice);
        vm.expectRevert(abi.encodeWithSelector(DatanetTreasury.UnknownContribution.selector, NET, 1));
        desk.enter(NET, 1);
        vm.expectRevert(abi.encodeWithSelector(DatanetTreasury.NotEntered.selector, NET, alice));
        desk.claim(NET, alice);
        vm.warp(from);
        vm.prank(CAROL);
        desk.enter(NET, alice);
        DatanetTreasury.Entry memory entry = desk.entryOf(NET, alice);
        eq("whoever entered it", ALICE, entry.contributor);
        eq("bytes", 7, entry.textBytes);
        vm.expectRevert(abi.encodeWithSelector(DatanetTreasury.AlreadyEntered.selector, NET, alice));
        desk.enter(NET, alice);
    }

    function test_payments_that_mean_nothing_are_refused() public {
        vm.expectRevert(DatanetTreasury.ZeroAmount.selector);
        desk.receiveFor(NET);
        book.accept(NET, ALICE, 1);
        uint256 most = type(uint128).max;
        vm.deal(address(this), most + 1);
        desk.receiveFor{value: most}(NET);
        vm.expectRevert(abi.encodeWithSelector(DatanetTreasury.AmountTooLarge.selector, most + 1));
        desk.receiveFor{value: 1}(NET);
    }

    /// @dev An asset that is no Datanet, one that is not registered, and a Datanet into which nothing was accepted.
    function test_what_nobody_contributed_to_earns_goes_to_the_insurance_pool() public {
        uint64[3] memory assets = [9, 77, NET];
        for (uint256 i = 0; i < 3; ++i) {
            uint256 before = book.insurance().balance;
            vm.expectRevert(abi.encodeWithSelector(DatanetTreasury.NobodyToPay.selector, assets[i]));
            desk.receiveFor{value: 1}(assets[i]);
            book.pay{value: 1 ether}(desk, assets[i]);
            eq("passed on", before + 1 ether, book.insurance().balance);
            eq("nothing waits", 0, desk.streamOf(assets[i]).undivided);
            eq("nothing stays", 0, address(desk).balance);
            eq("nor counts as received", 0, desk.totalReceived());
        }
        // From the first acceptance on it is the contributors', entered or not.
        book.accept(NET, ALICE, 1);
        book.pay{value: 1 ether}(desk, NET);
        eq("waits", 1 ether, desk.streamOf(NET).undivided);
    }

    function test_an_insurance_account_that_refuses_is_credited_and_blocks_no_payout() public {
        Contributor hostile = new Contributor(desk);
        book.insure(address(hostile));
        hostile.become(true);
        book.pay{value: 2 ether}(desk, 9);
        eq("owed", 2 ether, desk.owed(address(hostile)));
        hostile.become(false);
        desk.withdrawOwed(payable(address(hostile)));
        eq("taken", 2 ether, address(hostile).balance);
        eq("nothing stays", 0, address(desk).balance);
    }

    function test_a_contributor_that_refuses_is_credited_and_blocks_nobody() public {
        Contributor hostile = new Contributor(desk);
        entered(address(hostile), 1);
        entered(ALICE, 1);
        vm.warp(block.timestamp + TREASURY_DELAY);
        desk.receiveFor{value: 2 ether}(NET);
        hostile.become(true);
        desk.claim(NET, 0);
        eq("owed", 1 ether, desk.owed(address(hostile)));
        desk.claim(NET, 1);
        eq("the other", 1 ether, ALICE.balance);
        vm.expectRevert();
        desk.withdrawOwed(payable(address(hostile)));
        hostile.become(false);
        desk.withdrawOwed(payable(address(hostile)));
        eq("taken", 1 ether, address(hostile).balance);
        vm.expectRevert(abi.encodeWithSelector(DatanetTreasury.NothingOwed.selector, address(hostile)));
        desk.withdrawOwed(payable(address(hostile)));
    }

    /// @dev It claims its other contribution from within, which is its own; nothing twice.
    function test_who_calls_back_gets_what_it_is_due_once() public {
        Contributor hostile = new Contributor(desk);
        entered(address(hostile), 1);
        entered(address(hostile), 1);
        entered(ALICE, 2);
        vm.warp(block.timestamp + TREASURY_DELAY);
        desk.receiveFor{value: 4 ether}(NET);
        desk.claim(NET, 0);
        if (desk.earned(NET, 1) != 0) desk.claim(NET, 1);
        eq("due", 2 ether, address(hostile).balance + desk.owed(address(hostile)));
        eq("the other's", 2 ether, address(desk).balance - desk.owed(address(hostile)));
        desk.claim(NET, 2);
        eq("is paid", 2 ether, ALICE.balance);
    }

    function test_constructor_refuses_zero_addresses() public {
        AssetRegistry none = AssetRegistry(address(0));
        vm.expectRevert(abi.encodeWithSelector(DatanetTreasury.ZeroAddress.selector, "registry"));
        new DatanetTreasury(none, address(book), 1);
        vm.expectRevert(abi.encodeWithSelector(DatanetTreasury.ZeroAddress.selector, "settlement"));
        new DatanetTreasury(registry, address(0), 1);
        eq("Settlement pays the suite's", address(treasuries), address(settlement.datanetTreasury()));
    }

    /// @notice Whatever comes in, whoever is in, and whoever has claimed: every wei is paid, due, carried or waiting.
    function testFuzz_every_wei_is_paid_due_or_undivided(uint64[6] calldata sizes, uint96[6] calldata amounts, uint256 order) public {
        uint256 sum = 0;
        uint256 due;
        for (uint256 i = 0; i < 6; ++i) {
            if ((order >> i) & 1 == 1) vm.warp(block.timestamp + TREASURY_DELAY);
            if (i == 0) book.accept(NET, address(uint160(0x1000)), 1 + sizes[0] % 1e12);
            desk.receiveFor{value: uint256(amounts[i]) + 1}(NET);
            sum += uint256(amounts[i]) + 1;
            if (i == 0) enter(0);
            else entered(address(uint160(0x1000 + i)), 1 + sizes[i] % 1e12);
            if ((order >> (8 + i)) & 1 == 1) {
                uint256 which = (order >> (16 + 4 * i)) % (i + 1);
                if (desk.earned(NET, which) != 0) desk.claim(NET, which);
            }
            due = 0;
            for (uint256 k = 0; k <= i; ++k) due += desk.earned(NET, k);
            yes("received", sum == desk.totalReceived());
            eq("balance", sum - desk.totalClaimed(), address(desk).balance);
            yes("due is there", due <= address(desk).balance);
        }
        vm.warp(block.timestamp + TREASURY_DELAY);
        desk.receiveFor{value: 1}(NET);
        due = 0;
        for (uint256 k = 0; k < 6; ++k) due += desk.earned(NET, k);
        eq("to the wei", sum + 1, desk.totalClaimed() + due + desk.streamOf(NET).undivided);
        yes("less than a wei per byte", desk.streamOf(NET).undivided < desk.streamOf(NET).textBytes);
        for (uint256 k = 0; k < 6; ++k) if (desk.earned(NET, k) != 0) desk.claim(NET, k);
        eq("what stays", desk.streamOf(NET).undivided, address(desk).balance);
    }

    /// @dev From the contributor's signature to its pay, with the registry and Settlement as they are deployed.
    function test_what_an_epoch_gives_a_datanet_reaches_its_contributors() public {
        vm.prank(author);
        uint64 datanet = registry.register(3, "");
        contributed(datanet, CLIENT_KEY, 750);
        contributed(datanet, REVIEWER_KEY, 250);
        eq("when", block.timestamp, registry.contributionAt(datanet, 0).acceptedAt);
        vm.warp(block.timestamp + TREASURY_DELAY);
        treasuries.enter(datanet, 0);
        treasuries.enter(datanet, 1);
        settlement.receiveCollected{value: 8 ether}();
        address account = address(uint160(uint256(keccak256(abi.encodePacked("tributary/treasury/v1", datanet)))));
        Settlement.Claim[] memory claims = new Settlement.Claim[](1);
        claims[0] = Settlement.Claim(account, 0, 8 ether, bytes32(0), 0, "");
        bytes memory body = abi.encodePacked(node, uint64(1), keccak256("root"), uint64(1), uint128(1));
        settlement.submitNodeRoot(body, signed(NODE_KEY, address(settlement), Sig.NODE_ROOT, body));
        vm.warp(block.timestamp + W1);
        vm.prank(other);
        settlement.postPayout(1, 0, Trees.sumRoot(1, 8 ether, Trees.leaf(abi.encodePacked(account, uint128(0), uint128(8 ether), bytes32(0)))), 8 ether);
        vm.warp(block.timestamp + TREASURY_DELAY);
        settlement.claimMany(1, claims);
        uint256 had = client.balance;
        treasuries.claim(datanet, 0);
        treasuries.claim(datanet, 1);
        eq("three quarters", 6 ether, client.balance - had);
        eq("a quarter", 2 ether, reviewer.balance);
    }

    // ------------------------------------------------------------------ helpers

    function entered(address contributor, uint64 textBytes) private {
        enter(book.accept(NET, contributor, textBytes));
    }

    function enter(uint256 number) private {
        vm.warp(block.timestamp + TREASURY_DELAY);
        desk.enter(NET, number);
    }

    function contributed(uint64 datanet, uint256 key, uint64 textBytes) private {
        address contributor = vm.addr(key);
        bytes32 top = keccak256(abi.encode(key));
        bytes32 textRoot = textRootOf(textBytes, top);
        bytes32 commitment = keccak256(abi.encodePacked("tributary/commitment/v1", bytes32(0), textRoot, contributor));
        vm.prank(contributor);
        registry.commit(commitment);
        bytes memory body = abi.encodePacked(datanet, contributor, textRoot, textBytes, uint32(1), bytes32(0), bytes32(0), bytes32(0));
        bytes memory report = abi.encodePacked(datanet, textRoot, commitment, bytes32(0), bytes32(0), uint8(1));
        bytes memory reportSignature = signed(AUTHOR_KEY, address(registry), Sig.GATE_REPORT, report);
        registry.accept(body, signed(key, address(registry), Sig.CONTRIBUTION, body), report, reportSignature, top);
    }
}
